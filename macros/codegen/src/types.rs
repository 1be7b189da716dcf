//! What stands for an Avro type in generated code.

use gretchen_schema::{Definition, Logical, Named, SchemaError, Schemas, Type};
use proc_macro2::TokenStream;
use quote::quote;

use super::names;

/// Digits after the point that `rust_decimal` has.
const MAX_SCALE: u32 = 28;

/// An Avro type in Rust.
pub(super) struct Rust {
    /// What owns a value.
    pub(super) owned: TokenStream,
    /// What borrows one, for `'a`.
    pub(super) view: TokenStream,
    /// The codec between both and bytes.
    pub(super) codec: TokenStream,
    /// The value that a field without a default begins with.
    pub(super) zero: TokenStream,
    /// Whether `HasField` is there for it.
    pub(super) scalar: bool,
}

impl Rust {
    fn copied(owned: TokenStream, codec: &str, zero: TokenStream) -> Self {
        let codec = names::ident(codec);
        Self { view: owned.clone(), owned, codec: quote!(::gretchen::__private::#codec), zero, scalar: true }
    }
}

/// The Rust of a type; the error is about the field at `place`.
pub(super) fn rust(schemas: &Schemas, ty: &Type) -> Result<Rust, String> {
    Ok(match ty {
        Type::Null => Rust { scalar: false, ..Rust::copied(quote!(()), "Null", quote!(())) },
        Type::Boolean => Rust::copied(quote!(bool), "Boolean", quote!(false)),
        Type::Int => Rust::copied(quote!(i32), "Int", quote!(0)),
        Type::Long => Rust::copied(quote!(i64), "Long", quote!(0)),
        Type::Float => Rust::copied(quote!(f32), "Float", quote!(0.0)),
        Type::Double => Rust::copied(quote!(f64), "Double", quote!(0.0)),
        Type::String => Rust {
            owned: quote!(::std::string::String),
            view: quote!(&'a str),
            codec: quote!(::gretchen::__private::Str),
            zero: quote!(::std::string::String::new()),
            scalar: true,
        },
        Type::Bytes => Rust {
            owned: quote!(::gretchen::__private::bytes::Bytes),
            view: quote!(&'a [u8]),
            codec: quote!(::gretchen::__private::Blob),
            zero: quote!(::gretchen::__private::bytes::Bytes::new()),
            scalar: true,
        },
        Type::Array(items) => {
            let Rust { owned, codec, .. } = rust(schemas, items)?;
            Rust {
                owned: quote!(::std::vec::Vec<#owned>),
                view: quote!(::gretchen::__private::ArrayView<'a, #codec>),
                codec: quote!(::gretchen::__private::Array<#codec>),
                zero: quote!(::std::vec::Vec::new()),
                scalar: false,
            }
        }
        Type::Map(values) => {
            let Rust { owned, codec, .. } = rust(schemas, values)?;
            Rust {
                owned: quote!(::std::collections::BTreeMap<::std::string::String, #owned>),
                view: quote!(::gretchen::__private::MapView<'a, #codec>),
                codec: quote!(::gretchen::__private::Map<#codec>),
                zero: quote!(::std::collections::BTreeMap::new()),
                scalar: false,
            }
        }
        Type::Union(_) => optional(schemas, ty)?,
        Type::Named(id) => named(schemas.get(*id), schemas.min_len(ty))?,
        Type::Logical(logical) => rust_logical(*logical, None)?,
    })
}

fn optional(schemas: &Schemas, ty: &Type) -> Result<Rust, String> {
    let Some((null, inner)) = ty.as_optional() else {
        return Err(format!(
            "not supported yet: a union of {}; use [\"null\", T] or a record with optional fields",
            schemas.type_name(ty)
        ));
    };
    let Rust { owned, view, codec, scalar, .. } = rust(schemas, inner)?;
    let null = null as i64;
    Ok(Rust {
        owned: quote!(::core::option::Option<#owned>),
        view: quote!(::core::option::Option<#view>),
        codec: quote!(::gretchen::__private::Optional<#codec, #null>),
        zero: quote!(::core::option::Option::None),
        scalar,
    })
}

fn named(named: &Named, min_len: usize) -> Result<Rust, String> {
    let name = names::ident(&names::type_name(named.simple_name()));
    let view = names::ident(&format!("{}View", names::type_name(named.simple_name())));
    let zero = quote!(<#name as ::core::default::Default>::default());
    Ok(match &named.definition {
        Definition::Record(_) => Rust {
            owned: quote!(#name),
            view: quote!(#view<'a>),
            codec: quote!(::gretchen::__private::Nested<#name, #min_len>),
            zero,
            scalar: false,
        },
        Definition::Enum { .. } => Rust {
            owned: quote!(#name),
            view: quote!(#name),
            codec: quote!(::gretchen::__private::Enum<#name>),
            zero,
            scalar: false,
        },
        Definition::Fixed { size, logical: Some(logical) } => rust_logical(*logical, Some(*size))?,
        Definition::Fixed { size, logical: None } => Rust {
            owned: quote!(#name),
            view: quote!(&'a [u8; #size]),
            codec: quote!(::gretchen::__private::Fixed<#name, #size>),
            zero,
            scalar: false,
        },
    })
}

fn rust_logical(logical: Logical, fixed: Option<usize>) -> Result<Rust, String> {
    let jiff = quote!(::gretchen::__private::jiff);
    let timestamp = |codec| Rust::copied(quote!(#jiff::Timestamp), codec, quote!(#jiff::Timestamp::UNIX_EPOCH));
    let local = |codec| Rust {
        scalar: false,
        ..Rust::copied(
            quote!(#jiff::civil::DateTime),
            codec,
            quote!(#jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0)),
        )
    };
    let time = |codec| Rust {
        scalar: false,
        ..Rust::copied(quote!(#jiff::civil::Time), codec, quote!(#jiff::civil::Time::midnight()))
    };
    Ok(match logical {
        Logical::Decimal { scale, .. } if scale > MAX_SCALE => {
            return Err(format!("not supported yet: a decimal of scale {scale}; use {MAX_SCALE} or less"));
        }
        Logical::Decimal { precision, scale } => {
            let decimal = quote!(::gretchen::__private::rust_decimal::Decimal);
            let codec = match fixed {
                None => quote!(::gretchen::__private::DecimalBytes<#precision, #scale>),
                Some(size) => quote!(::gretchen::__private::DecimalFixed<#precision, #scale, #size>),
            };
            Rust { view: decimal.clone(), zero: quote!(#decimal::ZERO), owned: decimal, codec, scalar: true }
        }
        Logical::Date => {
            Rust::copied(quote!(#jiff::civil::Date), "Date", quote!(#jiff::civil::Date::constant(1970, 1, 1)))
        }
        Logical::TimeMillis => time("TimeMillis"),
        Logical::TimeMicros => time("TimeMicros"),
        Logical::TimestampMillis => timestamp("TimestampMillis"),
        Logical::TimestampMicros => timestamp("TimestampMicros"),
        Logical::TimestampNanos => timestamp("TimestampNanos"),
        Logical::LocalTimestampMillis => local("LocalTimestampMillis"),
        Logical::LocalTimestampMicros => local("LocalTimestampMicros"),
        Logical::LocalTimestampNanos => local("LocalTimestampNanos"),
        Logical::Uuid => {
            let codec = if fixed.is_some() { "UuidFixed" } else { "UuidText" };
            Rust::copied(
                quote!(::gretchen::__private::uuid::Uuid),
                codec,
                quote!(::gretchen::__private::uuid::Uuid::nil()),
            )
        }
    })
}

/// Refuses what is not generated yet: records that contain themselves by way of a union, array or map.
pub(super) fn check_recursion(schemas: &Schemas) -> Result<(), SchemaError> {
    fn contains(schemas: &Schemas, ty: &Type, target: &Named, seen: &mut Vec<String>) -> bool {
        match ty {
            Type::Array(inner) | Type::Map(inner) => contains(schemas, inner, target, seen),
            Type::Union(branches) => branches.iter().any(|branch| contains(schemas, branch, target, seen)),
            Type::Named(id) => {
                let named = schemas.get(*id);
                if named.name == target.name {
                    return true;
                }
                if seen.contains(&named.name) {
                    return false;
                }
                seen.push(named.name.clone());
                match &named.definition {
                    Definition::Record(fields) => fields.iter().any(|field| contains(schemas, &field.ty, target, seen)),
                    _ => false,
                }
            }
            _ => false,
        }
    }
    for (_, named) in schemas.named() {
        let Definition::Record(fields) = &named.definition else { continue };
        if let Some(field) = fields.iter().find(|field| contains(schemas, &field.ty, named, &mut Vec::new())) {
            return Err(SchemaError {
                place: field.place.clone(),
                message: format!(
                    "not supported yet: record {:?} contains itself in field {:?}",
                    named.name, field.name
                ),
            });
        }
    }
    Ok(())
}
