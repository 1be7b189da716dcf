//! From Avro's names to Rust's.

use proc_macro2::Ident;
use quote::format_ident;

/// Keywords that cannot be raw identifiers.
const NEVER_RAW: [&str; 5] = ["self", "Self", "super", "crate", "_"];

/// Keywords since the edition of 2024, which `syn` takes for names.
const LATE_KEYWORDS: [&str; 1] = ["gen"];

/// Types that are known without a path: a module of such a name would hide them.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
    "f32", "f64",
];

/// `Acme` becomes `acme`.
pub(super) fn module_name(part: &str) -> String {
    let name = field_name(part);
    if PRIMITIVES.contains(&name.as_str()) { format!("{name}_") } else { name }
}

/// `order_total` becomes `OrderTotal`, `IN_TRANSIT` becomes `InTransit`, `InTransit` stays.
pub(super) fn type_name(name: &str) -> String {
    let camel = name
        .split('_')
        .map(|part| {
            let mut chars = part.chars();
            let Some(first) = chars.next() else { return String::new() };
            let rest = chars.as_str();
            let shouted = part.len() > 1 && !part.chars().any(|c| c.is_ascii_lowercase());
            let rest = if shouted { rest.to_ascii_lowercase() } else { rest.to_owned() };
            format!("{}{rest}", first.to_ascii_uppercase())
        })
        .collect::<String>();
    match camel.chars().next() {
        Some(first) if !first.is_ascii_digit() => camel,
        _ => format!("_{camel}"),
    }
}

/// `customerId` becomes `customer_id`, `HTTPStatus` becomes `http_status`.
pub(super) fn field_name(name: &str) -> String {
    let chars = name.chars().collect::<Vec<_>>();
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(index + 1);
        let starts_word = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase)
            });
        if starts_word {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    // What begins so is ours. A keyword that cannot be raw gets its underscore here, so that `self` and `self_` clash.
    if snake.starts_with("__") || NEVER_RAW.contains(&snake.as_str()) {
        snake.push('_');
    }
    snake
}

/// The variant of an enum's symbol.
pub(super) fn variant_name(symbol: &str) -> String {
    match type_name(symbol) {
        // A variant would hide the list of all.
        name if name == "ALL" => "All".to_owned(),
        name => name,
    }
}

/// As an identifier: raw where it is a keyword, with an underscore where it cannot be raw.
pub(super) fn ident(name: &str) -> Ident {
    if NEVER_RAW.contains(&name) {
        return format_ident!("{name}_");
    }
    match syn::parse_str::<Ident>(name) {
        Ok(ident) if !LATE_KEYWORDS.contains(&name) => ident,
        _ => format_ident!("r#{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_like_rust() {
        for (avro, rust) in [
            ("Order", "Order"),
            ("order_total", "OrderTotal"),
            ("IN_TRANSIT", "InTransit"),
            ("InTransit", "InTransit"),
            ("A", "A"),
            ("_1", "_1"),
        ] {
            assert_eq!(type_name(avro), rust);
        }
        for (avro, rust) in [
            ("customerId", "customer_id"),
            ("HTTPStatus", "http_status"),
            ("order_id", "order_id"),
            ("x1Y", "x1_y"),
            ("__bytes", "__bytes_"),
            ("self", "self_"),
            ("self_", "self_"),
            ("_", "__"),
        ] {
            assert_eq!(field_name(avro), rust);
        }
        assert_eq!((ident("type").to_string(), ident("gen").to_string()), ("r#type".into(), "r#gen".into()));
        assert_eq!(ident("Self").to_string(), "Self_");
        assert_eq!((variant_name("ALL").as_str(), variant_name("A_L_L").as_str()), ("All", "All"));
        assert_eq!((module_name("Shop").as_str(), module_name("u8").as_str()), ("shop", "u8_"));
    }
}
