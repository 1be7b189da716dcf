//! A union of other than `null` and one type: an enum with a variant for each branch.

use std::collections::BTreeMap;

use gretchen_schema::{Place, SchemaError, Schemas, Type};
use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::modules::Taken;
use super::names;
use super::types::{Context, Rust};

/// A generated union.
pub(super) struct Union {
    pub(super) name: String,
    /// Of the field that it is in.
    pub(super) place: Place,
    /// Whether it has a view of its own.
    pub(super) borrows: bool,
    pub(super) tokens: TokenStream,
}

/// A branch with everything that is generated of it; `rust` is there unless it is `null`.
struct Branch {
    ident: Ident,
    doc: String,
    rust: Option<Rust>,
}

/// The variant of a branch: by its own name, by what it means, or by its type.
fn variant(schemas: &Schemas, branch: &Type) -> String {
    match branch {
        Type::Named(id) => names::type_name(schemas.get(*id).simple_name()),
        Type::Logical(logical) => names::type_name(&logical.keyword().replace('-', "_")),
        other => names::type_name(other.primitive_name()),
    }
}

/// Where a branch is defined, for people: a named type may come from afar.
fn origin(schemas: &Schemas, branch: &Type, union: &Place) -> Place {
    match branch {
        Type::Named(id) => schemas.get(*id).place.clone(),
        _ => union.clone(),
    }
}

/// Generates the enum `name` and gives its type.
pub(super) fn union(context: &mut Context<'_>, name: &str, branches: &[Type]) -> Result<Rust, SchemaError> {
    let schemas = context.schemas;
    if branches.is_empty() {
        let message = "the union is empty; name at least one type".to_owned();
        return Err(SchemaError { place: context.place.clone(), message });
    }
    let mut taken = Taken::default();
    let mut found = Vec::with_capacity(branches.len());
    for branch in branches {
        let variant = variant(schemas, branch);
        taken.take("variant", &format!("{name}::{variant}"), &origin(schemas, branch, &context.place))?;
        let rust = match branch {
            Type::Null => None,
            other => Some(context.branch(other, name)?),
        };
        let doc = format!("`{}`", schemas.type_name(branch));
        found.push(Branch { ident: names::ident(&variant), doc, rust });
    }
    let any = |is: fn(&Rust) -> bool| found.iter().filter_map(|branch| branch.rust.as_ref()).any(is);
    let (borrows, is_copy) = (any(|rust| !rust.same_view), !any(|rust| !rust.is_copy));
    let lends = any(|rust| rust.lends);
    let first = schemas.first_branch(branches);
    let tokens = tokens(context, name, branches, &found, first, borrows);
    context.unions.push(Union { name: name.to_owned(), place: context.place.clone(), borrows, tokens });
    let owned = names::ident(name);
    let view = names::ident(&format!("{name}View"));
    Ok(Rust {
        owned: quote!(#owned),
        view: if borrows { quote!(#view<'a>) } else { quote!(#owned) },
        codec: quote!(#owned),
        zero: quote!(<#owned as ::core::default::Default>::default()),
        scalar: false,
        same_view: !borrows,
        is_copy,
        lends,
        boxed: None,
    })
}

fn tokens(
    context: &Context<'_>,
    name: &str,
    branches: &[Type],
    found: &[Branch],
    first: usize,
    borrows: bool,
) -> TokenStream {
    let type_name = context.schemas.type_name(&Type::Union(branches.to_vec()));
    let doc = format!("In field `{}` of [`{}`]: `{type_name}`.", context.field_name, context.rust_name());
    let owned = names::ident(name);
    let view_name = names::ident(&format!("{name}View"));
    let idents = found.iter().map(|branch| &branch.ident).collect::<Vec<_>>();
    let docs = found.iter().map(|branch| &branch.doc).collect::<Vec<_>>();
    let payload = |of: fn(&Rust) -> &TokenStream| {
        found.iter().map(move |branch| branch.rust.as_ref().map(of).map(|ty| quote!((#ty)))).collect::<Vec<_>>()
    };
    let (owned_payload, view_payload) = (payload(|rust| &rust.owned), payload(|rust| &rust.view));
    let is_copy = found.iter().all(|branch| branch.rust.as_ref().is_none_or(|rust| rust.is_copy));
    let copy = is_copy.then(|| quote!(Copy,));
    let initial = match found.get(first) {
        Some(Branch { ident, rust: Some(rust), .. }) => {
            let zero = &rust.zero;
            quote!(Self::#ident(#zero))
        }
        Some(Branch { ident, rust: None, .. }) => quote!(Self::#ident),
        None => TokenStream::new(),
    };
    let view = borrows.then(|| {
        let view_doc = format!("[`{name}`], borrowed from the bytes that it was read from.");
        quote! {
            #[doc = #view_doc]
            #[derive(Clone, Debug)]
            pub enum #view_name<'a> {
                #(#[doc = #docs] #idents #view_payload,)*
            }
        }
    });
    let codec = codec(&owned, &view_name, found, borrows);
    let conversions = conversions(&owned, found);
    quote! {
        #[doc = #doc]
        #[derive(Clone, #copy Debug, PartialEq)]
        pub enum #owned {
            #(#[doc = #docs] #idents #owned_payload,)*
        }
        #view
        #[automatically_derived]
        impl ::core::default::Default for #owned {
            fn default() -> Self {
                #initial
            }
        }
        #codec
        #conversions
    }
}

fn codec(owned: &Ident, view_name: &Ident, found: &[Branch], borrows: bool) -> TokenStream {
    let count = found.len();
    let view_of = if borrows { quote!(#view_name) } else { quote!(#owned) };
    let view_type = if borrows { quote!(#view_name<'a>) } else { quote!(#owned) };
    let view_any = if borrows { quote!(#view_name<'_>) } else { quote!(#owned) };
    let encode = found.iter().enumerate().map(|(index, Branch { ident, rust, .. })| match rust {
        None => quote! {
            Self::#ident => {
                ::gretchen::__private::write_branch(#index, out);
                ::core::result::Result::Ok(())
            }
        },
        Some(Rust { codec, .. }) => quote! {
            Self::#ident(value) => {
                ::gretchen::__private::write_branch(#index, out);
                <#codec as ::gretchen::__private::Codec>::encode(value, out)
            }
        },
    });
    let read = |of: &TokenStream, method: &Ident| {
        let last = count.saturating_sub(1);
        let arms = found.iter().enumerate().map(|(index, Branch { ident, rust, .. })| {
            // The number was checked: it is the last one where it is no other.
            let number = if index == last { quote!(_) } else { quote!(#index) };
            match rust {
                None => quote!(#number => ::core::result::Result::Ok(#of::#ident)),
                Some(Rust { codec, .. }) => {
                    quote!(#number => <#codec as ::gretchen::__private::Codec>::#method(input).map(#of::#ident))
                }
            }
        });
        quote! {
            match input.read_index(#count)? {
                #(#arms,)*
            }
        }
    };
    let convert = |of: &TokenStream, method: &Ident| {
        let arms = found.iter().enumerate().map(|(index, Branch { ident, rust, .. })| match rust {
            None => quote!(::core::option::Option::Some((#index, _)) => ::core::result::Result::Ok(#of::#ident)),
            Some(Rust { codec, .. }) => quote! {
                ::core::option::Option::Some((#index, step)) => {
                    <#codec as ::gretchen::__private::Codec>::#method(input, step).map(#of::#ident)
                }
            },
        });
        quote! {
            match step.branch() {
                #(#arms,)*
                _ => ::core::result::Result::Err(::gretchen::__private::no_plan(input)),
            }
        }
    };
    let converted = convert(&quote!(Self), &names::ident("resolve"));
    let converted_view = convert(&view_of, &names::ident("resolve_view"));
    let own = found.iter().map(|Branch { ident, rust, .. }| match rust {
        None => quote!(#view_of::#ident => Self::#ident),
        Some(Rust { codec, .. }) => quote! {
            #view_of::#ident(value) => Self::#ident(<#codec as ::gretchen::__private::Codec>::own(value))
        },
    });
    let decoded = read(&quote!(Self), &names::ident("decode"));
    let viewed = read(&view_of, &names::ident("view"));
    quote! {
        #[automatically_derived]
        impl ::gretchen::__private::Codec for #owned {
            type Owned = Self;
            type View<'a> = #view_type;
            const MIN_LEN: usize = 1;

            fn encode(
                value: &Self,
                out: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
                match value {
                    #(#encode)*
                }
            }

            fn decode(
                input: &mut ::gretchen::__private::Input<'_>,
            ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
                #decoded
            }

            fn view<'a>(
                input: &mut ::gretchen::__private::Input<'a>,
            ) -> ::core::result::Result<#view_type, ::gretchen::__private::DecodeError> {
                #viewed
            }

            // `Self::View` may be a variant.
            fn own(view: &#view_any) -> Self {
                match view {
                    #(#own,)*
                }
            }

            fn convert(
                input: &mut ::gretchen::__private::Input<'_>,
                step: &::gretchen::__private::Step,
            ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
                #converted
            }

            fn convert_view<'a>(
                input: &mut ::gretchen::__private::Input<'a>,
                step: &'a ::gretchen::__private::Step,
            ) -> ::core::result::Result<#view_type, ::gretchen::__private::DecodeError> {
                #converted_view
            }
        }
    }
}

/// `From` for each branch whose Rust type no other branch has.
fn conversions(owned: &Ident, found: &[Branch]) -> TokenStream {
    let value = |branch: &Branch| {
        let rust = branch.rust.as_ref()?;
        Some(rust.boxed.as_ref().unwrap_or(&rust.owned).to_string())
    };
    let values = found.iter().map(value).collect::<Vec<_>>();
    let mut counts = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value).or_insert(0) += 1);
    let conversions = found.iter().zip(&values).filter_map(|(branch, value)| {
        let (rust, ident) = (branch.rust.as_ref()?, &branch.ident);
        if counts.get(value) != Some(&1) {
            return None;
        }
        let (ty, held) = match &rust.boxed {
            Some(inner) => (inner, quote!(::std::boxed::Box::new(value))),
            None => (&rust.owned, quote!(value)),
        };
        Some(quote! {
            #[automatically_derived]
            impl ::core::convert::From<#ty> for #owned {
                fn from(value: #ty) -> Self {
                    Self::#ident(#held)
                }
            }
        })
    });
    quote!(#(#conversions)*)
}
