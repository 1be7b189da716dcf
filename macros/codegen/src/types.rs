//! What stands for an Avro type in generated code.

use gretchen_schema::{Definition, Field, Logical, Named, Place, SchemaError, Schemas, Type, TypeId};
use proc_macro2::TokenStream;
use quote::quote;

use super::modules::{modules_of, path};
use super::unions::{Union, union};
use super::{Namespaces, names};

/// Digits that every `rust_decimal` can hold.
const MAX_PRECISION: u32 = 28;

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
    /// Whether the view is the owned type.
    pub(super) same_view: bool,
    /// Whether both are `Copy`.
    pub(super) is_copy: bool,
    /// Whether the view lends something from the bytes itself, not only by what is in a box: a lifetime that is used
    /// by nothing but the type that it belongs to counts as unused.
    pub(super) lends: bool,
    /// What is in the box, if it is one.
    pub(super) boxed: Option<TokenStream>,
}

impl Rust {
    fn copied(owned: TokenStream, codec: &str, zero: TokenStream) -> Self {
        let codec = names::ident(codec);
        let codec = quote!(::gretchen::__private::#codec);
        Self {
            view: owned.clone(),
            owned,
            codec,
            zero,
            scalar: true,
            same_view: true,
            is_copy: true,
            lends: false,
            boxed: None,
        }
    }

    fn lent(owned: TokenStream, view: TokenStream, codec: &str, zero: TokenStream) -> Self {
        Self { view, same_view: false, is_copy: false, lends: true, ..Self::copied(owned, codec, zero) }
    }

    /// No scalar, not `Copy`, lent from the bytes and not in a box.
    fn held(owned: TokenStream, view: TokenStream, codec: TokenStream, zero: TokenStream) -> Self {
        Self { owned, view, codec, zero, scalar: false, same_view: false, is_copy: false, lends: true, boxed: None }
    }

    fn in_box(self) -> Self {
        let Self { owned, view, codec, zero, .. } = self;
        let boxed = Some(owned.clone());
        Self {
            boxed,
            lends: false,
            ..Self::held(
                quote!(::std::boxed::Box<#owned>),
                quote!(::std::boxed::Box<#view>),
                quote!(::gretchen::__private::Boxed<#codec>),
                quote!(::std::boxed::Box::new(#zero)),
            )
        }
    }
}

/// What is generated of one record, and what it needs beside itself.
pub(super) struct Context<'a> {
    pub(super) schemas: &'a Schemas,
    namespaces: Namespaces,
    pub(super) id: TypeId,
    module: Vec<String>,
    /// The field in hand: its name and where it is defined.
    pub(super) field_name: String,
    pub(super) place: Place,
    /// Whether the type in hand is held in place, neither in an array nor in a map.
    direct: bool,
    /// Whether it is a branch of a union: every cycle of records has one, and so a box there is enough.
    in_union: bool,
    pub(super) unions: Vec<Union>,
}

impl<'a> Context<'a> {
    pub(super) fn new(schemas: &'a Schemas, namespaces: Namespaces, id: TypeId) -> Self {
        let named = schemas.get(id);
        Self {
            schemas,
            namespaces,
            id,
            module: modules_of(namespaces, named),
            field_name: String::new(),
            place: named.place.clone(),
            direct: true,
            in_union: false,
            unions: Vec::new(),
        }
    }

    pub(super) fn named(&self) -> &'a Named {
        self.schemas.get(self.id)
    }

    pub(super) fn rust_name(&self) -> String {
        names::type_name(self.named().simple_name())
    }

    /// The Rust of a field's type.
    pub(super) fn field(&mut self, field: &Field) -> Result<Rust, SchemaError> {
        self.field_name.clone_from(&field.name);
        self.place = field.place.clone();
        self.direct = true;
        let name = format!("{}{}", self.rust_name(), names::type_name(&names::field_name(&field.name)));
        self.rust(&field.ty, &name)
    }

    /// The Rust of a type; a union in it is called `name`.
    pub(super) fn rust(&mut self, ty: &Type, name: &str) -> Result<Rust, SchemaError> {
        Ok(match ty {
            Type::Null => Rust { scalar: false, ..Rust::copied(quote!(()), "Null", quote!(())) },
            Type::Boolean => Rust::copied(quote!(bool), "Boolean", quote!(false)),
            Type::Int => Rust::copied(quote!(i32), "Int", quote!(0)),
            Type::Long => Rust::copied(quote!(i64), "Long", quote!(0)),
            Type::Float => Rust::copied(quote!(f32), "Float", quote!(0.0)),
            Type::Double => Rust::copied(quote!(f64), "Double", quote!(0.0)),
            Type::String => {
                let string = quote!(::std::string::String);
                Rust::lent(string.clone(), quote!(&'a str), "Str", quote!(#string::new()))
            }
            Type::Bytes => {
                let bytes = quote!(::gretchen::__private::bytes::Bytes);
                Rust::lent(bytes.clone(), quote!(&'a [u8]), "Blob", quote!(#bytes::new()))
            }
            Type::Array(items) => {
                let Rust { owned, codec, .. } = self.within(items, &format!("{name}Item"))?;
                Rust::held(
                    quote!(::std::vec::Vec<#owned>),
                    quote!(::gretchen::__private::ArrayView<'a, #codec>),
                    quote!(::gretchen::__private::Array<#codec>),
                    quote!(::std::vec::Vec::new()),
                )
            }
            Type::Map(values) => {
                let Rust { owned, codec, .. } = self.within(values, &format!("{name}Value"))?;
                Rust::held(
                    quote!(::std::collections::BTreeMap<::std::string::String, #owned>),
                    quote!(::gretchen::__private::MapView<'a, #codec>),
                    quote!(::gretchen::__private::Map<#codec>),
                    quote!(::std::collections::BTreeMap::new()),
                )
            }
            Type::Union(branches) => match ty.as_optional() {
                Some((null, inner)) => self.optional(null, inner, name)?,
                None => union(self, name, branches)?,
            },
            Type::Named(id) => self.of_name(*id),
            Type::Logical(logical) => rust_logical(*logical, None),
        })
    }

    /// What an array or a map holds.
    fn within(&mut self, ty: &Type, name: &str) -> Result<Rust, SchemaError> {
        let direct = std::mem::replace(&mut self.direct, false);
        let rust = self.rust(ty, name);
        self.direct = direct;
        rust
    }

    /// A branch of a union that is called `name`, or of an optional.
    pub(super) fn branch(&mut self, ty: &Type, name: &str) -> Result<Rust, SchemaError> {
        let in_union = std::mem::replace(&mut self.in_union, true);
        let rust = self.rust(ty, name);
        self.in_union = in_union;
        rust
    }

    fn optional(&mut self, null: usize, inner: &Type, name: &str) -> Result<Rust, SchemaError> {
        let Rust { owned, view, codec, scalar, same_view, is_copy, lends, .. } = self.branch(inner, name)?;
        let null = null as i64;
        Ok(Rust {
            owned: quote!(::core::option::Option<#owned>),
            view: quote!(::core::option::Option<#view>),
            codec: quote!(::gretchen::__private::Optional<#codec, #null>),
            zero: quote!(::core::option::Option::None),
            scalar,
            same_view,
            is_copy,
            lends,
            boxed: None,
        })
    }

    fn of_name(&self, id: TypeId) -> Rust {
        let named = self.schemas.get(id);
        let camel = names::type_name(named.simple_name());
        let module = modules_of(self.namespaces, named);
        let name = path(&self.module, &module, &camel);
        let zero = quote!(<#name as ::core::default::Default>::default());
        match &named.definition {
            Definition::Record(_) => {
                let view = path(&self.module, &module, &format!("{camel}View"));
                let min_len = self.schemas.min_len(&Type::Named(id));
                let codec = match self.schemas.is_recursive(id) {
                    true => quote!(::gretchen::__private::Recursive<#name, #min_len>),
                    false => quote!(::gretchen::__private::Nested<#name, #min_len>),
                };
                let rust = Rust::held(quote!(#name), quote!(#view<'a>), codec, zero);
                match self.direct && self.in_union && self.schemas.needs_box(self.id, id) {
                    true => rust.in_box(),
                    false => rust,
                }
            }
            Definition::Enum { .. } => {
                let codec = quote!(::gretchen::__private::Enum<#name>);
                Rust { codec, scalar: false, ..Rust::copied(quote!(#name), "Enum", zero) }
            }
            Definition::Fixed { size, logical: Some(logical) } => rust_logical(*logical, Some(*size)),
            Definition::Fixed { size, logical: None } => Rust::held(
                quote!(#name),
                quote!(&'a [u8; #size]),
                quote!(::gretchen::__private::Fixed<#name, #size>),
                zero,
            ),
        }
    }
}

fn rust_logical(logical: Logical, fixed: Option<usize>) -> Rust {
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
    match logical {
        Logical::Decimal { precision, scale } if precision > MAX_PRECISION => big_decimal(match fixed {
            None => quote!(::gretchen::__private::BigDecimalBytes<#precision, #scale>),
            Some(size) => quote!(::gretchen::__private::BigDecimalFixed<#precision, #scale, #size>),
        }),
        Logical::Decimal { precision, scale } => {
            let decimal = quote!(::gretchen::__private::rust_decimal::Decimal);
            let codec = match fixed {
                None => quote!(::gretchen::__private::DecimalBytes<#precision, #scale>),
                Some(size) => quote!(::gretchen::__private::DecimalFixed<#precision, #scale, #size>),
            };
            Rust { codec, ..Rust::copied(decimal.clone(), "DecimalBytes", quote!(#decimal::ZERO)) }
        }
        Logical::BigDecimal => big_decimal(quote!(::gretchen::__private::BigDecimal)),
        Logical::Duration => {
            let duration = quote!(::gretchen::__private::AvroDuration);
            Rust::copied(duration.clone(), "Duration", quote!(#duration::ZERO))
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
    }
}

fn big_decimal(codec: TokenStream) -> Rust {
    let decimal = quote!(::gretchen::__private::bigdecimal::BigDecimal);
    let zero = quote!(<#decimal as ::core::default::Default>::default());
    Rust { codec, scalar: false, is_copy: false, ..Rust::copied(decimal, "BigDecimal", zero) }
}
