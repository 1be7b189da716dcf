//! What a function's signature says: which records it takes, which tables, and what it puts out.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, FnArg, GenericArgument, PathArguments, PathSegment, ReturnType, Safety, Signature, Type, Visibility,
};

use crate::errors::Errors;

/// A function up to its body, which is none of our business and may use any syntax.
pub(super) struct Function {
    pub(super) attributes: Vec<Attribute>,
    pub(super) visibility: Visibility,
    pub(super) signature: Signature,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let function = Self {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
        };
        input.parse::<TokenStream>()?;
        Ok(function)
    }
}

/// What is handed to the function at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Record,
    Event,
    Batch,
    Stream,
}

/// The first parameter: the shape and the record type in it.
pub(super) struct Input {
    pub(super) shape: Shape,
    pub(super) record: Type,
}

/// Records that are put out: their type, and the written type around it.
pub(super) struct Records {
    pub(super) whole: Type,
    pub(super) record: Type,
    /// Each comes with a key of its own, or may.
    pub(super) keyed: bool,
}

/// A parameter after the first.
pub(super) enum Extra {
    /// The next table, with the parameter's type for errors.
    Table(Box<Type>),
    /// Where records are put out.
    Output(Box<Records>),
}

/// A signature that an agent can have.
pub(super) struct Handler {
    pub(super) input: Input,
    pub(super) extras: Vec<Extra>,
    /// What is put out by returning it.
    pub(super) returns: Option<Records>,
    /// The return type as it was written, if it was.
    pub(super) return_type: Option<Type>,
}

impl Handler {
    /// Reads a signature; `None` if its first parameter is no input, which has then been reported.
    pub(super) fn read(signature: &Signature, errors: &mut Errors) -> Option<Self> {
        check_qualifiers(signature, errors);
        let mut parameters = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(parameter) => Some(&*parameter.ty),
            FnArg::Receiver(receiver) => {
                errors.on(receiver, "an agent is a free function: it has no `self`");
                None
            }
        });
        let first = parameters.next();
        let others: Vec<&Type> = parameters.collect();
        if first.is_none() && signature.receiver().is_none() {
            let message = format!("an agent takes records: `{}(order: Order)`", signature.ident);
            errors.on(&signature.ident, message);
        }
        let input = first.and_then(|first| errors.keep(read_input(first)));
        let extras: Vec<Extra> = others.into_iter().filter_map(|other| errors.keep(read_extra(other))).collect();
        let return_type = match &signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, returned) => Some((**returned).clone()),
        };
        let returns = return_type.as_ref().map_or(Ok(None), read_returned);
        let handler = Self { input: input?, extras, returns: errors.keep(returns)?, return_type };
        handler.check_outputs(errors);
        Some(handler)
    }

    /// The table parameters' types.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Type> {
        self.extras.iter().filter_map(|extra| match extra {
            Extra::Table(whole) => Some(&**whole),
            Extra::Output(_) => None,
        })
    }

    /// The `Output` parameters.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Records> {
        self.extras.iter().filter_map(|extra| match extra {
            Extra::Output(records) => Some(&**records),
            Extra::Table(_) => None,
        })
    }

    /// What is put out, returned or not.
    pub(super) fn output(&self) -> Option<&Records> {
        self.returns.as_ref().or_else(|| self.outputs().next())
    }

    fn check_outputs(&self, errors: &mut Errors) {
        let Some(Records { whole, .. }) = &self.returns else { return };
        if self.input.shape == Shape::Stream {
            let message =
                "a stream agent returns `()` or `Result<()>`; it puts records out through an `Output<T>` parameter";
            errors.on(whole, message);
        } else if self.outputs().next().is_some() {
            errors.on(whole, "put records out either by returning them or through the `Output` parameter");
        }
    }
}

fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.on(signature.fn_token, "an agent is an `async fn`");
    }
    if !matches!(signature.safety, Safety::Default) {
        errors.on(&signature.safety, "an agent is safe to call");
    }
    if let Some(abi) = &signature.abi {
        errors.on(abi, "an agent is a plain Rust function");
    }
    if !signature.generics.params.is_empty() {
        errors.on(&signature.generics, "an agent has concrete types: which topic would a generic one read?");
    } else if let Some(clause) = &signature.generics.where_clause {
        errors.on(clause, "an agent has concrete types");
    }
}

/// The type without invisible or needless parentheses.
fn peel(mut whole: &Type) -> &Type {
    loop {
        whole = match whole {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return whole,
        };
    }
}

fn last_segment(whole: &Type) -> Option<&PathSegment> {
    match peel(whole) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// The first type argument of a path segment.
fn argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(whole) => Some(whole),
        _ => None,
    })
}

/// The type argument of `segment`, or an error that says how to write it.
fn required_argument(segment: &PathSegment, example: &str) -> syn::Result<Type> {
    let name = &segment.ident;
    argument(segment)
        .cloned()
        .ok_or_else(|| syn::Error::new_spanned(segment, format!("say of which records: `{name}<{example}>`")))
}

fn refuse_reference(whole: &Type) -> syn::Result<()> {
    if let Type::Reference(reference) = whole {
        let inner = &reference.elem;
        let message = format!("an agent owns what it is given: take it by value, `{}`", show(inner));
        return Err(syn::Error::new_spanned(whole, message));
    }
    Ok(())
}

/// A type as a person would write it.
fn show(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, close) in [(" :: ", "::"), (" <", "<"), ("< ", "<"), (" >", ">"), (" ,", ","), ("& ", "&")] {
        text = text.replace(spaced, close);
    }
    text
}

fn read_input(whole: &Type) -> syn::Result<Input> {
    let plain = peel(whole);
    refuse_reference(plain)?;
    if matches!(plain, Type::ImplTrait(_) | Type::Infer(_) | Type::Tuple(_)) {
        return Err(syn::Error::new_spanned(whole, "name the record type, or `Event`, `Batch` or `Stream` of it"));
    }
    let (shape, record) = match last_segment(plain) {
        Some(segment) if segment.ident == "Stream" => (Shape::Stream, required_argument(segment, "Order")?),
        Some(segment) if segment.ident == "Event" => (Shape::Event, required_argument(segment, "Order")?),
        Some(segment) if segment.ident == "Batch" => (Shape::Batch, required_argument(segment, "Order")?),
        Some(segment) if segment.ident == "TableMut" || segment.ident == "Output" => {
            let message = format!("the record comes first, `{}` after it", segment.ident);
            return Err(syn::Error::new_spanned(whole, message));
        }
        _ => (Shape::Record, plain.clone()),
    };
    refuse_reference(peel(&record))?;
    Ok(Input { shape, record })
}

fn read_extra(whole: &Type) -> syn::Result<Extra> {
    let plain = peel(whole);
    let segment = match plain {
        Type::Reference(reference) => last_segment(&reference.elem),
        _ => last_segment(plain),
    };
    match segment {
        Some(segment) if segment.ident == "TableMut" => {
            refuse_reference(plain)?;
            Ok(Extra::Table(Box::new(whole.clone())))
        }
        Some(segment) if segment.ident == "Output" => {
            refuse_reference(plain)?;
            let record = required_argument(segment, "OrderTotal")?;
            Ok(Extra::Output(Box::new(Records { whole: whole.clone(), record, keyed: true })))
        }
        Some(segment) if segment.ident == "Table" || segment.ident == "TableRef" => {
            Err(syn::Error::new_spanned(whole, "an agent gets its table as `TableMut<'_, K, V>`"))
        }
        _ => Err(syn::Error::new_spanned(
            whole,
            "nothing can be given for this parameter: after the records come `TableMut<'_, K, V>` for each table and \
             `Output<T>` for each output",
        )),
    }
}

/// `Vec<u8>` is one value, not many.
fn is_bytes(segment: &PathSegment, argument: &Type) -> bool {
    segment.ident == "Vec" && matches!(argument, Type::Path(path) if path.path.is_ident("u8"))
}

fn is_unit(whole: &Type) -> bool {
    matches!(peel(whole), Type::Tuple(tuple) if tuple.elems.is_empty())
}

fn read_returned(whole: &Type) -> syn::Result<Option<Records>> {
    // `Result` without arguments is an alias whose content is not visible here; by custom it is one of `()`.
    let mut inner = match last_segment(whole) {
        Some(segment) if segment.ident == "Result" => match argument(segment) {
            Some(inner) => inner,
            None => return Ok(None),
        },
        _ => whole,
    };
    if is_unit(inner) {
        return Ok(None);
    }
    let mut keyed = false;
    for wrappers in [&["Option", "Vec"][..], &["Keyed"][..]] {
        if let Some(segment) = last_segment(inner)
            && wrappers.iter().any(|wrapper| segment.ident == wrapper)
            && let Some(argument) = argument(segment)
            && !is_bytes(segment, argument)
        {
            keyed |= segment.ident == "Keyed";
            inner = argument;
        }
    }
    match peel(inner) {
        Type::ImplTrait(_) | Type::Reference(_) | Type::Infer(_) | Type::Never(_) | Type::TraitObject(_) => {
            let message = "an agent returns `()`, a record, `Option`, `Vec` or `Keyed` of it, or a `Result` of those";
            Err(syn::Error::new_spanned(whole, message))
        }
        _ => Ok(Some(Records { whole: whole.clone(), record: inner.clone(), keyed })),
    }
}

/// The first paragraph of a doc comment, on one line.
pub(crate) fn help(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let syn::Meta::NameValue(pair) = &attribute.meta else { continue };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { continue };
        lines.extend(text.value().lines().map(|line| line.trim().to_owned()));
        if text.value().is_empty() {
            lines.push(String::new());
        }
    }
    let paragraph = lines.into_iter().skip_while(String::is_empty).take_while(|line| !line.is_empty());
    paragraph.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_the_first_paragraph() {
        let item: syn::ItemStatic = syn::parse_quote! {
            /// Running totals
            /// of each customer.
            ///
            /// More about them.
            static X: u8 = 0;
        };
        assert_eq!(help(&item.attrs), "Running totals of each customer.");
        let item: syn::ItemStatic = syn::parse_quote! {
            #[doc = "One.\nTwo.\n\nThree."]
            static X: u8 = 0;
        };
        assert_eq!(help(&item.attrs), "One. Two.");
    }

    #[test]
    fn returned_types_are_unwrapped() {
        let record = |text: &str| match read_returned(&syn::parse_str(text).unwrap()) {
            Ok(Some(Records { record, .. })) => show(&record),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(record("OrderTotal"), "OrderTotal");
        assert_eq!(record("anyhow::Result<Option<Keyed<model::OrderTotal>>>"), "model::OrderTotal");
        assert_eq!(record("Result<Vec<OrderTotal>, String>"), "OrderTotal");
        assert_eq!(record("Vec<u8>"), "Vec<u8>");
        assert_eq!(record("Vec<Vec<u8>>"), "Vec<u8>");
        assert_eq!(record("Result<(), E>"), "nothing");
        assert_eq!(record("fmt::Result"), "nothing");
        assert!(record("impl Into<X>").starts_with("an agent returns"));
    }
}
