//! `aggregate!`: figures over fields of a record, by key, without a hand-written fold.

mod emit;
mod parse;

use proc_macro2::TokenStream;

use crate::errors::Errors;

/// Expands the declarations. Those without mistakes are emitted whatever is wrong with others.
pub(crate) fn expand(tokens: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let declarations = parse::declarations(tokens, &mut errors);
    let mut expanded: TokenStream = declarations
        .into_iter()
        .map(|declaration| declaration.map_or_else(|plain| plain, |declaration| emit::emit(&declaration)))
        .collect();
    expanded.extend(errors.into_compile_errors());
    expanded
}
