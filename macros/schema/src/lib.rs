//! Avro schemas as gretchen reads them: positions for errors, names over several files, canonical form, fingerprints.
//!
//! ```
//! use gretchen_schema::{Schemas, Source};
//!
//! let schemas = Schemas::parse(&[Source { name: "a.avsc", text: r#"{"type": "fixed", "name": "Md5", "size": 16}"# }])?;
//! assert_eq!(schemas.canonical(&schemas.roots()[0]), r#"{"name":"Md5","type":"fixed","size":16}"#);
//! # Ok::<(), gretchen_schema::SchemaError>(())
//! ```

mod ast;
mod cycles;
mod defaults;
mod error;
mod fingerprint;
mod json;
mod logical;
mod meanings;
mod measure;
mod parse;
mod write;

pub use ast::{Attributes, Definition, Field, Logical, Named, Remarks, Schemas, Type, TypeId};
pub use defaults::latin1_bytes;
pub use error::{Place, SchemaError, Source, did_you_mean};
pub use fingerprint::fingerprint;

/// Levels of nesting that a schema may have, as JSON written out and as types in types.
pub const MAX_DEPTH: usize = 100;
