//! The macros of gretchen. Use them through the `gretchen` crate, which documents what their expansions need.

mod agent;
mod aggregate;
mod errors;
mod names;
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
