//! What a program with agents usually needs: `use gretchen::prelude::*;`

pub use std::process::ExitCode;

pub use rust_decimal::Decimal;

pub use crate::agent::{Batch, Event, Keyed, Output, Stream};
pub use crate::app::App;
pub use crate::backend::log::LogOptions;
pub use crate::clock::Clock;
pub use crate::error::BoxError;
pub use crate::session::Session;
pub use crate::table::{Table, TableMut, TableRef};
pub use crate::topic::{TopicSettings, WireFormat};
pub use crate::{agent, aggregate, records};

/// The result of an agent: any error will do.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;
