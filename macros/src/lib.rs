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
///
/// ```ignore
/// /// Running totals of each customer.
/// #[agent(topic = "orders", key = customer, table = TOTALS, output = "order-totals")]
/// async fn total_orders(order: Order, mut totals: TableMut<'_, String, OrderTotal>) -> Result<OrderTotal> {
///     totals.update(&order.customer, |total| {
///         total.orders += 1;
///         total.clone()
///     })
/// }
/// ```
///
/// The function stays as it is. Beside it stands a type of its name and visibility that implements
/// `gretchen::agent::Agent`, and the agent is submitted for discovery. The first paragraph of the documentation is
/// the agent's help.
///
/// | Argument | |
/// | --- | --- |
/// | `topic = "orders"`, `topics = ["a", "b"]` | what it reads; needed |
/// | `key = customer` | the field that the topics must be keyed by; where they are not, they are repartitioned |
/// | `table = TOTALS`, `tables = [A, B]` | the statics of its `TableMut` parameters, in their order |
/// | `output = "order-totals"` | where what it returns, or sends through its `Output`, goes |
/// | `outputs = ["totals", "alerts"]` | the topics of its `Output` parameters, in their order |
/// | `concurrency = 4` | records or events of one partition at once; not with tables |
/// | `on_error = fail` | the task stops at a record that fails; this is the default |
/// | `on_error = retry(3)`, `retry(3, "2s")` | tried again first, after a wait (`ms`, `s`, `m`; 100 ms) that doubles |
/// | `on_error = skip` | counted and logged |
/// | `on_error = dead_letter("orders-failed")` | the original bytes go to a topic |
/// | `name = "totals"` | its name, which is part of the stored format; by default the function's |
/// | `group = "billing"` | its consumer group; by default `APP.AGENT` |
///
/// The first parameter is a record `R` (or another value), `Event<R>`, `Batch<R>` or `Stream<R>`; after it come a
/// `TableMut<'_, K, V>` for each table and an `Output<T>` for each output. It returns nothing, a record, `Option`, `Vec` or
/// `Keyed` of it, or a `Result` of those; a stream agent returns nothing or a `Result` of it. It need not be `Send`.
#[proc_macro_attribute]
pub fn agent(attribute: TokenStream, item: TokenStream) -> TokenStream {
    agent::expand(attribute.into(), item.into()).into()
}

/// Declares tables whose values are figures over the records of a topic, and the agents that keep them.
///
/// ```ignore
/// gretchen::aggregate! {
///     /// Running totals of each customer.
///     #[agent(topic = "orders", key = customer, output = "order-totals")]
///     pub static TOTALS: Table<String, OrderTotal> = from Order {
///         orders: count(),
///         revenue: sum(amount),
///         largest: max(amount),
///         large: fold(|count: &mut i64, order: &OrderView<'_>| {
///             *count += i64::from(order.quantity > 10);
///             Ok(())
///         }),
///     };
/// }
/// ```
///
/// Left of each colon is a field of the output record, right of it a function over a field of the input record:
/// `count()` of records, `count(field)`, `sum`, `min`, `max`, `mean`, `first`, `last`, which all skip null, or a `fold`
/// of one's own, whose state is a scalar that begins with its default. The output record's field with the name of
/// `key` is filled with the key; every other one must be given. A record whose figures overflow, or whose fold fails,
/// changes none of them and goes to the agent's `on_error`.
///
/// The attribute takes `topic`, `topics`, `key`, `output`, `on_error`, `name` and `group` as `#[agent]` does, and
/// `table = "…"`, the table's name. By default the agent is named as the static in lower case (`totals`, also the name
/// of its type), and the table so with dashes.
#[proc_macro]
pub fn aggregate(tokens: TokenStream) -> TokenStream {
    aggregate::expand(tokens.into()).into()
}

/// Generates a type for every record, enum, fixed and wide union of Avro schema files, with a codec specialised to it.
///
/// ```ignore
/// gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");
///
/// use shop::{Order, OrderTotal};
/// ```
///
/// Paths are relative to the crate's `Cargo.toml`. The files may name each other's types, in any order; an edited
/// file rebuilds the crate, and a broken one is an error on its path with the file's line and column. A file may hold
/// one type or a list of them; of what has no name of its own (a primitive, an array, a map, the list itself) only the
/// named types inside are generated.
///
/// A record `shop.Order` becomes `struct Order` (cloned, printed, compared, and with the schema's defaults as its
/// `Default`) and `struct OrderView<'a>`, the same borrowed from the bytes it was read from, both in a module `shop`. A
/// namespace is a module for each of its parts, which stand where the macro is called, so that one call in a module
/// should name all the files of a namespace; with `namespaces = flat` behind the files all types stand there
/// themselves. What has no namespace always does.
///
/// | Avro | owned | view |
/// | --- | --- | --- |
/// | `boolean`, `int`, `long`, `float`, `double` | `bool`, `i32`, `i64`, `f32`, `f64` | the same |
/// | `string`, `bytes` | `String`, `bytes::Bytes` | `&str`, `&[u8]` |
/// | `array`, `map` | `Vec<T>`, `BTreeMap<String, T>` | `ArrayView`, `MapView` |
/// | `["null", T]`, `[T, "null"]` | `Option<T>` | `Option` |
/// | any other union | an enum with a variant for each branch | its view; the same where nothing is borrowed |
/// | `record`, `enum` | the type of that name | its view; the same |
/// | `fixed` | a struct around `[u8; N]`, of more than 1,024 bytes around a box of it | `&[u8; N]` |
/// | `decimal` | `rust_decimal::Decimal`, above 28 digits `bigdecimal::BigDecimal` | the same |
/// | `big-decimal` | `bigdecimal::BigDecimal` | the same |
/// | `date`, `time-*` | `jiff::civil::Date`, `jiff::civil::Time` | the same |
/// | `timestamp-*`, `local-timestamp-*` | `jiff::Timestamp`, `jiff::civil::DateTime` | the same |
/// | `duration` | `gretchen::record::Duration` | the same |
/// | `uuid` | `uuid::Uuid` | the same |
///
/// The enum of a union is named after its record and field: `value` of `Reading` is a `ReadingValue`, in an array
/// `ReadingValueItem`, in a map `ReadingValueValue`. Its variants are named after their types (`Null`, `Int`,
/// `String`, `Array`), named types by their name and logical types by theirs (`Date`, `TimestampMillis`); `From` is
/// there for each branch whose Rust type is its own. Each place has its own enum, even where unions are the same.
///
/// A record that contains itself has a `Box` at the branch of the union that leads back; arrays and maps need none. Its
/// values may be 128 records deep (fewer where one takes more than 384 bytes); deeper ones are an error, written or read.
///
/// Names become Rust's: fields `snake_case`, types `CamelCase`, keywords raw (`r#type`; `self_`, since that one cannot
/// be), and what begins with `__` ends with `_`. Two that become one are an error that names both places.
///
/// A decimal is written exactly or not at all; of a time or timestamp, what is finer than its unit is cut off. An
/// unknown logical type is the type underneath. A known one on another type, with wrong attributes or with a letter
/// wrong is an error here; a schema that is read when the program runs has the type underneath instead, as the
/// specification says. Attributes that the specification does not know are ignored.
#[proc_macro]
pub fn records(input: TokenStream) -> TokenStream {
    records::expand(input.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
