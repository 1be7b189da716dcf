//! The types of a set of schemas.

use std::collections::BTreeMap;

use gretchen_schema::{Definition, Field, Named, SchemaError, Schemas, Type};
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use super::docs::doc;
use super::modules::{Modules, Taken};
use super::types::{Context, Rust};
use super::{Namespaces, names};

/// Every type of the schemas, as items that stand in any module of a crate that uses `gretchen`.
pub fn generate(schemas: &Schemas, namespaces: Namespaces) -> Result<TokenStream, SchemaError> {
    let mut modules = Modules::new(namespaces);
    for (id, named) in schemas.named() {
        // A fixed with a meaning is used as that; it has no type of its own.
        if matches!(named.definition, Definition::Fixed { logical: Some(_), .. }) {
            continue;
        }
        let name = names::type_name(named.simple_name());
        modules.take(named, &name, &named.place)?;
        let tokens = match &named.definition {
            Definition::Record(fields) => {
                modules.take(named, &format!("{name}View"), &named.place)?;
                let mut context = Context::new(schemas, namespaces, id);
                let record = record(&mut context, fields)?;
                let mut unions = TokenStream::new();
                for union in context.unions {
                    modules.take(named, &union.name, &union.place)?;
                    if union.borrows {
                        modules.take(named, &format!("{}View", union.name), &union.place)?;
                    }
                    unions.extend(union.tokens);
                }
                quote!(#record #unions)
            }
            Definition::Enum { symbols, default } => enumeration(named, symbols, default.as_deref())?,
            Definition::Fixed { size, .. } => fixed(named, *size),
        };
        modules.add(named, tokens);
    }
    Ok(modules.into_tokens())
}

/// A field with everything that is generated of it.
struct RustField<'a> {
    field: &'a Field,
    ident: Ident,
    rust: Rust,
    doc: String,
    default: TokenStream,
}

fn rust_fields<'a>(context: &mut Context<'_>, fields: &'a [Field]) -> Result<Vec<RustField<'a>>, SchemaError> {
    let schemas = context.schemas;
    let mut taken = Taken::default();
    fields
        .iter()
        .map(|field| {
            let name = names::field_name(&field.name);
            taken.take("field", &name, &field.place)?;
            let rust = context.field(field)?;
            let doc = doc(&field.doc, || format!("Field `{}`: `{}`.", field.name, schemas.type_name(&field.ty)));
            let default = default_value(schemas, field, &rust)?;
            Ok(RustField { field, ident: names::ident(&name), rust, doc, default })
        })
        .collect()
}

/// The schema's default is written as bytes here and read by the codec there, so that there is one reading of it.
fn default_value(schemas: &Schemas, field: &Field, rust: &Rust) -> Result<TokenStream, SchemaError> {
    let zero = &rust.zero;
    let Some(default) = &field.default else { return Ok(zero.clone()) };
    let mut bytes = Vec::new();
    if schemas.encode_default(&field.ty, default, &mut bytes).is_none() {
        let message = format!("default {default} does not fit {}", schemas.type_name(&field.ty));
        return Err(SchemaError { place: field.place.clone(), message });
    }
    let (codec, bytes) = (&rust.codec, Literal::byte_string(&bytes));
    Ok(quote!(::gretchen::__private::default_of::<#codec>(#bytes).unwrap_or_else(|| #zero)))
}

fn record(context: &mut Context<'_>, fields: &[Field]) -> Result<TokenStream, SchemaError> {
    let (schemas, named) = (context.schemas, context.named());
    let camel = names::type_name(named.simple_name());
    let name = names::ident(&camel);
    let view_name = names::ident(&format!("{camel}View"));
    let fields = rust_fields(context, fields)?;
    let structs = structs(named, &name, &view_name, &fields);
    let schema = schema_const(schemas, &Type::Named(context.id), named, &fields);
    let codec = record_codec(&view_name, &fields);
    let access = fields.iter().filter(|field| field.rust.scalar).map(|field| has_field(&name, field));
    Ok(quote! {
        #structs
        #[automatically_derived]
        impl ::gretchen::__private::Record for #name {
            type View<'a> = #view_name<'a>;
            #schema
            #codec
        }
        #(#access)*
    })
}

fn structs(named: &Named, name: &Ident, view_name: &Ident, fields: &[RustField<'_>]) -> TokenStream {
    let doc = doc(&named.doc, || format!("Record `{}`.", named.name));
    let view_doc = format!("[`{name}`], borrowed from the bytes that it was read from.");
    let idents = fields.iter().map(|field| &field.ident).collect::<Vec<_>>();
    let docs = fields.iter().map(|field| &field.doc).collect::<Vec<_>>();
    let owned = fields.iter().map(|field| &field.rust.owned);
    let views = fields.iter().map(|field| &field.rust.view);
    let defaults = fields.iter().map(|field| &field.default);
    let default_doc = "Every field as the schema's default says, or else zero, empty or none.";
    let unused = (!borrows(fields)).then(|| quote!(#[doc(hidden)] pub __bytes: ::core::marker::PhantomData<&'a ()>));
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug, PartialEq)]
        pub struct #name {
            #(#[doc = #docs] pub #idents: #owned,)*
        }
        #[doc = #view_doc]
        #[derive(Clone, Debug)]
        pub struct #view_name<'a> {
            #(#[doc = #docs] pub #idents: #views,)*
            #unused
        }
        #[automatically_derived]
        impl ::core::default::Default for #name {
            #[doc = #default_doc]
            fn default() -> Self {
                Self { #(#idents: #defaults,)* }
            }
        }
    }
}

/// Whether any field borrows; without one the view's lifetime would be unused.
fn borrows(fields: &[RustField<'_>]) -> bool {
    fields.iter().any(|field| field.rust.lends)
}

fn schema_const(schemas: &Schemas, ty: &Type, named: &Named, fields: &[RustField<'_>]) -> TokenStream {
    let (name, doc) = (&named.name, &named.doc);
    let json = schemas.full_json(ty);
    let fingerprint = schemas.fingerprint(ty);
    let fields = fields.iter().map(|RustField { field, ident, rust, .. }| {
        let scalar = if rust.scalar { ident.unraw().to_string() } else { String::new() };
        let (name, doc) = (&field.name, &field.doc);
        let type_name = schemas.type_name(&field.ty);
        let default = match &field.default {
            Some(default) => {
                let json = default.to_string();
                quote!(::core::option::Option::Some(#json))
            }
            None => quote!(::core::option::Option::None),
        };
        quote! {
            ::gretchen::__private::FieldSchema {
                name: #name,
                scalar: #scalar,
                type_name: #type_name,
                default: #default,
                doc: #doc,
            }
        }
    });
    quote! {
        const SCHEMA: &'static ::gretchen::__private::RecordSchema = &::gretchen::__private::RecordSchema {
            name: #name,
            json: #json,
            fingerprint: #fingerprint,
            doc: #doc,
            fields: &[#(#fields),*],
        };
    }
}

/// Records of so many fields are decoded in place wherever that happens: what is not used of them is then not made.
const INLINED_FIELDS: usize = 12;

fn record_codec(view_name: &Ident, fields: &[RustField<'_>]) -> TokenStream {
    let idents = fields.iter().map(|field| &field.ident).collect::<Vec<_>>();
    // No field hides what else is called by a name here.
    let locals = idents.iter().map(|ident| format_ident!("{}_", ident)).collect::<Vec<_>>();
    let names = fields.iter().map(|field| &field.field.name).collect::<Vec<_>>();
    let codecs = fields.iter().map(|field| &field.rust.codec).collect::<Vec<_>>();
    let decode = |method: Ident| {
        quote! {#(
            let #locals = match <#codecs as ::gretchen::__private::Codec>::#method(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(::gretchen::__private::decode_within(error, #names));
                }
            };
        )*}
    };
    let unused = (!borrows(fields)).then(|| quote!(__bytes: ::core::marker::PhantomData));
    let (owned, viewed) = (decode(names::ident("decode")), decode(names::ident("view")));
    let numbers = (0..fields.len()).collect::<Vec<_>>();
    let resolve = |method: Ident| {
        quote! {
            let plan = input.record_plan(step)?;
            #(let mut #locals = ::core::option::Option::None;)*
            for written in plan.fields() {
                match written.number() {
                    #(#numbers => match <#codecs as ::gretchen::__private::Codec>::#method(input, written.step()) {
                        ::core::result::Result::Ok(value) => #locals = ::core::option::Option::Some(value),
                        ::core::result::Result::Err(error) => {
                            return ::core::result::Result::Err(::gretchen::__private::decode_within(error, #names));
                        }
                    },)*
                    _ => written.skip(input)?,
                }
            }
        }
    };
    let (resolved, resolved_view) = (resolve(names::ident("resolve")), resolve(names::ident("resolve_view")));
    let default = |function: Ident| {
        quote! {#(
            let #locals = match #locals {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::#function::<#codecs>(plan, #numbers, input)?
                }
            };
        )*}
    };
    let inline = if fields.len() <= INLINED_FIELDS { quote!(#[inline(always)]) } else { quote!(#[inline]) };
    let (owned_default, view_default) =
        (default(names::ident("resolve_default")), default(names::ident("view_default")));
    quote! {
        #[inline]
        fn encode(
            &self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
            let _ = &out;
            #(
                if let ::core::result::Result::Err(error) =
                    <#codecs as ::gretchen::__private::Codec>::encode(&self.#idents, out)
                {
                    return ::core::result::Result::Err(::gretchen::__private::encode_within(error, #names));
                }
            )*
            ::core::result::Result::Ok(())
        }

        #inline
        fn decode(
            input: &mut ::gretchen::__private::Input<'_>,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            let _ = &input;
            #owned
            ::core::result::Result::Ok(Self { #(#idents: #locals,)* })
        }

        #inline
        fn view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            let _ = &input;
            #viewed
            ::core::result::Result::Ok(#view_name { #(#idents: #locals,)* #unused })
        }

        fn resolve(
            input: &mut ::gretchen::__private::Input<'_>,
            step: &::gretchen::__private::Step,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            #resolved
            #owned_default
            ::core::result::Result::Ok(Self { #(#idents: #locals,)* })
        }

        fn resolve_view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
            step: &'a ::gretchen::__private::Step,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            #resolved_view
            #view_default
            ::core::result::Result::Ok(#view_name { #(#idents: #locals,)* #unused })
        }

        #[inline]
        fn from_view(view: &Self::View<'_>) -> Self {
            let _ = view;
            Self { #(#idents: <#codecs as ::gretchen::__private::Codec>::own(&view.#idents),)* }
        }
    }
}

fn has_field(record: &Ident, field: &RustField<'_>) -> TokenStream {
    let (ident, owned, in_schema) = (&field.ident, &field.rust.owned, &field.field.name);
    let name = ident.unraw().to_string();
    let ty = quote!(<#record as ::gretchen::__private::HasField<{ ::gretchen::__private::field_id(#name) }>>::Type);
    quote! {
        #[automatically_derived]
        impl ::gretchen::__private::HasField<{ ::gretchen::__private::field_id(#name) }> for #record {
            type Type = #owned;
            const FIELD: &'static str = #in_schema;

            #[inline]
            fn get<'a>(
                view: &<Self as ::gretchen::__private::Record>::View<'a>,
            ) -> <#ty as ::gretchen::__private::FieldType>::View<'a> {
                view.#ident
            }

            #[inline]
            fn set(&mut self, value: #ty) {
                self.#ident = value;
            }
        }
    }
}

fn enumeration(named: &Named, symbols: &[String], default: Option<&str>) -> Result<TokenStream, SchemaError> {
    let name = names::ident(&names::type_name(named.simple_name()));
    let mut taken = BTreeMap::new();
    for symbol in symbols {
        let variant = names::variant_name(symbol);
        if let Some(first) = taken.insert(variant.clone(), symbol) {
            let message = format!("symbols {first:?} and {symbol:?} would both be the variant `{variant}`; rename one");
            return Err(SchemaError { place: named.place.clone(), message });
        }
    }
    let variants = symbols.iter().map(|symbol| names::ident(&names::variant_name(symbol))).collect::<Vec<_>>();
    let first = default.and_then(|default| symbols.iter().position(|symbol| symbol == default)).unwrap_or(0);
    let initial = &variants[first];
    let doc = doc(&named.doc, || format!("Enum `{}`.", named.name));
    let symbol_docs = symbols.iter().map(|symbol| format!("`{symbol}`"));
    let (full_name, count, indexes) = (&named.name, symbols.len(), 0..symbols.len());
    Ok(quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum #name {
            #(#[doc = #symbol_docs] #variants,)*
        }
        impl #name {
            /// Every variant, in the order of the schema.
            pub const ALL: &'static [Self] = &[#(Self::#variants),*];

            /// The symbol as the schema writes it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    #(Self::#variants => #symbols,)*
                }
            }
        }
        #[automatically_derived]
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self::#initial
            }
        }
        #[automatically_derived]
        impl ::core::fmt::Display for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        #[automatically_derived]
        impl ::core::str::FromStr for #name {
            type Err = ::gretchen::__private::UnknownSymbol;

            // `Self::Err` may be a variant.
            fn from_str(
                symbol: &str,
            ) -> ::core::result::Result<Self, ::gretchen::__private::UnknownSymbol> {
                match symbol {
                    #(#symbols => ::core::result::Result::Ok(Self::#variants),)*
                    _ => ::core::result::Result::Err(
                        ::gretchen::__private::UnknownSymbol::new(symbol, #full_name, &[#(#symbols),*])
                    ),
                }
            }
        }
        #[automatically_derived]
        impl ::gretchen::__private::Symbols for #name {
            const COUNT: usize = #count;

            #[inline]
            fn from_index(index: usize) -> Self {
                Self::ALL.get(index).copied().unwrap_or(Self::ALL[0])
            }

            #[inline]
            fn index(self) -> usize {
                match self {
                    #(Self::#variants => #indexes,)*
                }
            }
        }
    })
}

/// Bytes up to which a fixed is held in place; larger ones are in a box, or records of a few would overflow a stack.
const MAX_IN_PLACE: usize = 1024;

fn fixed(named: &Named, size: usize) -> TokenStream {
    let name = names::ident(&names::type_name(named.simple_name()));
    let doc = doc(&named.doc, || format!("Fixed `{}`: {size} bytes.", named.name));
    let in_place = size <= MAX_IN_PLACE;
    let copy = in_place.then(|| quote!(Copy,));
    let (ty, zero, own) = match in_place {
        true => (quote!([u8; #size]), quote!([0; #size]), quote!(*bytes)),
        false => (
            quote!(::std::boxed::Box<[u8; #size]>),
            quote!(::gretchen::__private::boxed_zeroes()),
            quote!(::gretchen::__private::boxed_bytes(bytes)),
        ),
    };
    quote! {
        #[doc = #doc]
        #[derive(Clone, #copy Debug, PartialEq, Eq, Hash)]
        pub struct #name(
            /// The bytes.
            pub #ty,
        );
        #[automatically_derived]
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self(#zero)
            }
        }
        #[automatically_derived]
        impl ::gretchen::__private::FixedBytes<#size> for #name {
            #[inline]
            fn new(bytes: &[u8; #size]) -> Self {
                Self(#own)
            }

            #[inline]
            fn bytes(&self) -> &[u8; #size] {
                &self.0
            }
        }
    }
}
