//! The macros of gretchen. Use them through the `gretchen` crate, which documents what their expansions need.

mod agent;
mod aggregate;
mod errors;
mod names;
mod records;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes an `async fn` an agent: it is run for the records of a topic.
#[proc_macro_attribute]
pub fn agent(attribute: TokenStream, item: TokenStream) -> TokenStream {
    agent::expand(attribute.into(), item.into()).into()
}

/// Declares a table whose values are figures over the records of a topic, and the agent that keeps it.
#[proc_macro]
pub fn aggregate(tokens: TokenStream) -> TokenStream {
    aggregate::expand(tokens.into()).into()
}

/// Generates a type for every record, enum and fixed of Avro schema files, with a codec specialised to it.
///
/// ```ignore
/// gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");
/// ```
///
/// Paths are relative to the crate's `Cargo.toml`. The files may name each other's types, in any order; an edited
/// file rebuilds the crate, and a broken one is an error on its path with the file's line and column.
///
/// A record `shop.Order` becomes `struct Order` (cloned, printed, compared, and with the schema's defaults as its
/// `Default`) and `struct OrderView<'a>`, the same borrowed from the bytes it was read from. All types stand in the
/// module that calls the macro.
///
/// | Avro | owned | view |
/// | --- | --- | --- |
/// | `boolean`, `int`, `long`, `float`, `double` | `bool`, `i32`, `i64`, `f32`, `f64` | the same |
/// | `string`, `bytes` | `String`, `bytes::Bytes` | `&str`, `&[u8]` |
/// | `array`, `map` | `Vec<T>`, `BTreeMap<String, T>` | `ArrayView`, `MapView` |
/// | `["null", T]`, `[T, "null"]` | `Option<T>` | `Option` |
/// | `record`, `enum` | the type of that name | its view; the same |
/// | `fixed` | a struct around `[u8; N]` | `&[u8; N]` |
/// | `decimal` | `rust_decimal::Decimal` | the same |
/// | `date`, `time-*` | `jiff::civil::Date`, `jiff::civil::Time` | the same |
/// | `timestamp-*`, `local-timestamp-*` | `jiff::Timestamp`, `jiff::civil::DateTime` | the same |
/// | `uuid` | `uuid::Uuid` | the same |
///
/// A decimal is written exactly or not at all; of a time or timestamp, what is finer than its unit is cut off.
/// Wider unions and records that contain themselves are refused.
#[proc_macro]
pub fn records(input: TokenStream) -> TokenStream {
    records::expand(input.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
