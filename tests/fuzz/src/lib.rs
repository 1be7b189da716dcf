//! What the fuzz targets do with the bytes that they get, one module each; `run` beside this folder starts them.
//!
//! A new target is a module here with a function `run`, three lines in `targets/`, and a `[[bin]]` named
//! `fuzz_target_…` in `Cargo.toml`; seeds, if it wants any, stand in `seeds/` under its name.

pub mod arguments;
pub mod avsc;
pub mod checkpoint;
pub mod container;
pub mod decode;
pub mod folder;
pub mod frames;
pub mod index;
pub mod log;
pub mod memory;
pub mod resolve;
pub mod send;

/// Random schemas, values and changes: shared with the tests, which use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../../it/records/arbitrary/mod.rs"]
mod arbitrary;

/// Types that the library generates for these schemas.
mod types {
    gretchen::records!(
        "../schemas/everything.avsc",
        "../schemas/hurt.avsc",
        "../schemas/line.avsc",
        "../schemas/meanings.avsc",
        "../schemas/names.avsc",
        "../schemas/tree.avsc",
        "../schemas/unions.avsc",
        "../../schemas/order.avsc"
    );
}
