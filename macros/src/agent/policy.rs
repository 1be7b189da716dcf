//! `on_error = …`: what happens to a record that fails.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{Expr, ExprCall, ExprLit, Lit, LitStr};

use crate::errors::Errors;
use crate::names;

/// The words that may stand there.
const POLICIES: [&str; 4] = ["fail", "retry", "skip", "dead_letter"];
/// The wait before the first retry where none is given.
const DEFAULT_BACKOFF_MS: u64 = 100;

/// What happens to a record that fails.
#[derive(Default)]
pub(crate) enum OnError {
    /// The task stops at it.
    #[default]
    Fail,
    /// It is tried again so many times, then the task stops at it.
    Retry { times: u32, backoff_ms: u64 },
    /// It is counted and logged.
    Skip,
    /// It goes to a topic.
    DeadLetter(LitStr),
}

impl OnError {
    /// The value of the runtime's type.
    pub(crate) fn emit(&self) -> TokenStream {
        let variant = match self {
            Self::Fail => quote!(Fail),
            Self::Retry { times, backoff_ms } => quote!(Retry { times: #times, backoff_ms: #backoff_ms }),
            Self::Skip => quote!(Skip),
            Self::DeadLetter(topic) => quote!(DeadLetter(#topic)),
        };
        quote!(::gretchen::__private::OnError::#variant)
    }
}

/// Reads the policy.
pub(super) fn parse(value: &Expr, errors: &mut Errors) -> syn::Result<OnError> {
    let (word, call) = match value {
        Expr::Path(path) => (path.path.get_ident(), None),
        Expr::Call(call) => match &*call.func {
            Expr::Path(path) => (path.path.get_ident(), Some(call)),
            _ => (None, None),
        },
        _ => (None, None),
    };
    let Some(word) = word else {
        let message = "expected `fail`, `retry(3)`, `retry(3, \"100ms\")`, `skip` or `dead_letter(\"topic\")`";
        return Err(syn::Error::new_spanned(value, message));
    };
    match (word.to_string().as_str(), call) {
        ("fail", None) => Ok(OnError::Fail),
        ("skip", None) => Ok(OnError::Skip),
        ("fail" | "skip", Some(call)) => {
            Err(syn::Error::new_spanned(call, format!("`{word}` takes nothing: `on_error = {word}`")))
        }
        ("retry", Some(call)) => retry(call, errors),
        ("retry", None) => Err(syn::Error::new_spanned(
            value,
            "say how often: `retry(3)`, or `retry(3, \"100ms\")` with the first wait",
        )),
        ("dead_letter", Some(call)) => dead_letter(call),
        ("dead_letter", None) => {
            Err(syn::Error::new_spanned(value, "say which topic: `dead_letter(\"orders-failed\")`"))
        }
        _ => Err(unknown(word)),
    }
}

fn unknown(word: &Ident) -> syn::Error {
    let message = match names::closest(&word.to_string(), &POLICIES) {
        Some(meant) => format!("unknown policy `{word}`, did you mean `{meant}`?"),
        None => format!("unknown policy `{word}`; there are {}", names::list(&POLICIES)),
    };
    syn::Error::new(word.span(), message)
}

fn retry(call: &ExprCall, errors: &mut Errors) -> syn::Result<OnError> {
    let mut arguments = call.args.iter();
    let (times, backoff) = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(times), backoff, None) => (times, backoff),
        _ => return Err(syn::Error::new_spanned(call, "expected `retry(3)` or `retry(3, \"100ms\")`")),
    };
    let backoff_ms = backoff.and_then(|backoff| errors.keep(duration_ms(backoff))).unwrap_or(DEFAULT_BACKOFF_MS);
    let Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) = times else {
        return Err(syn::Error::new_spanned(times, "expected a number of retries, as in `retry(3)`"));
    };
    match literal.base10_parse::<u32>()? {
        0 => Err(syn::Error::new(literal.span(), "zero retries are no retry: say `fail`, or at least 1")),
        times => Ok(OnError::Retry { times, backoff_ms }),
    }
}

fn dead_letter(call: &ExprCall) -> syn::Result<OnError> {
    match (call.args.first(), call.args.len()) {
        (Some(Expr::Lit(ExprLit { lit: Lit::Str(topic), .. })), 1) => {
            names::check("a topic", topic)?;
            Ok(OnError::DeadLetter(topic.clone()))
        }
        _ => Err(syn::Error::new_spanned(call, "expected one topic, as in `dead_letter(\"orders-failed\")`")),
    }
}

fn duration_ms(value: &Expr) -> syn::Result<u64> {
    let text = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => literal.value(),
        _ => String::new(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match text[digits..].trim_start() {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    text[..digits]
        .parse::<u64>()
        .ok()
        .zip(unit_ms)
        .and_then(|(number, unit_ms)| number.checked_mul(unit_ms))
        .ok_or_else(|| syn::Error::new_spanned(value, "expected a wait such as \"100ms\", \"2s\" or \"1m\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let parse = |text: &str| duration_ms(&syn::parse_str(text).unwrap()).ok();
        assert_eq!(parse("\"100ms\""), Some(100));
        assert_eq!(parse("\"2s\""), Some(2000));
        assert_eq!(parse("\"1 m\""), Some(60_000));
        for bad in ["\"\"", "\"5\"", "\"ms\"", "\"1h\"", "100", "\"18446744073709551615s\""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
