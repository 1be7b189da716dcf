//! The grammar of `aggregate!`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprClosure, GenericArgument, Pat, PathArguments, Token, Type, TypePath, Visibility, braced,
};

use crate::agent::{Arguments, Carrier};
use crate::errors::Errors;
use crate::names;

/// The functions that are built in.
const FUNCTIONS: [&str; 8] = ["count", "sum", "min", "max", "mean", "first", "last", "fold"];

/// One declared aggregation.
pub(super) struct Declaration {
    /// Of the static, without `#[agent(…)]`.
    pub(super) attributes: Vec<Attribute>,
    pub(super) visibility: Visibility,
    pub(super) ident: Ident,
    /// `Table<K, V>` as it was written.
    pub(super) table: TypePath,
    /// The type of the grouping key.
    pub(super) key: Type,
    /// The record that holds the figures.
    pub(super) value: Type,
    /// The record that is read.
    pub(super) record: Type,
    pub(super) arguments: Arguments,
    /// The field that is grouped by.
    pub(super) group: Ident,
    pub(super) figures: Vec<Figure>,
}

/// One `field: function(…)`.
pub(super) struct Figure {
    /// The field of the output record.
    pub(super) field: Ident,
    /// The word for the function, as it was typed.
    pub(super) word: Ident,
    pub(super) function: Function,
}

/// What a figure is.
pub(super) enum Function {
    /// `count()`.
    CountRecords,
    /// `sum(field)` and its like: the marker type's name and the field of the input record.
    Built { marker: &'static str, field: Ident },
    /// `fold(|state: &mut S, record: &View| …)`: `S` and the closure.
    Fold { state: Box<Type>, closure: ExprClosure },
}

/// A declaration as it is written.
struct Syntax {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    ident: Ident,
    table: Type,
    record: Type,
    figures: Punctuated<(Ident, Expr), Token![,]>,
}

impl Parse for Syntax {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        input.parse::<Token![static]>()?;
        let ident = input.parse()?;
        input.parse::<Token![:]>()?;
        let table = input.parse()?;
        input.parse::<Token![=]>()?;
        let from: Option<Ident> = input.parse()?;
        if from.as_ref().is_none_or(|word| word != "from") {
            let place = from.map_or_else(|| input.span(), |word| word.span());
            return Err(syn::Error::new(place, "expected `from Order { … }`"));
        }
        let record = input.parse()?;
        let content;
        braced!(content in input);
        let figures = content.parse_terminated(
            |content| {
                let field = content.parse()?;
                content.parse::<Token![:]>()?;
                Ok((field, content.parse()?))
            },
            Token![,],
        )?;
        input.parse::<Token![;]>()?;
        Ok(Self { attributes, visibility, ident, table, record, figures })
    }
}

/// Reads all declarations of one use. In the place of one with mistakes stands its static as a plain table, so that
/// other code which names it is not in error too.
pub(super) fn declarations(tokens: TokenStream, errors: &mut Errors) -> Vec<Result<Declaration, TokenStream>> {
    let parser = |input: ParseStream<'_>| {
        let mut all = Vec::new();
        while !input.is_empty() {
            all.push(input.parse::<Syntax>()?);
        }
        Ok(all)
    };
    let all = errors.keep(syn::parse::Parser::parse2(parser, tokens)).unwrap_or_default();
    all.into_iter().map(|syntax| declaration_or_table(syntax, errors)).collect()
}

fn declaration_or_table(syntax: Syntax, errors: &mut Errors) -> Result<Declaration, TokenStream> {
    let Syntax { visibility, ident, table, .. } = &syntax;
    let plain = match table_types(table) {
        Ok(_) => quote! {
            #visibility static #ident: #table = ::gretchen::__private::Table::new("");
        },
        Err(_) => TokenStream::new(),
    };
    let mut own = Errors::default();
    let declaration = declaration(syntax, &mut own).filter(|_| own.is_empty());
    errors.absorb(own);
    declaration.ok_or(plain)
}

fn declaration(syntax: Syntax, errors: &mut Errors) -> Option<Declaration> {
    let Syntax { mut attributes, visibility, ident, table, record, figures } = syntax;
    let arguments = match attributes.iter().position(|attribute| attribute.path().is_ident("agent")) {
        Some(at) => {
            let attribute = attributes.remove(at);
            let place = attribute.path().span();
            let tokens = attribute.meta.require_list().map(|list| list.tokens.clone()).unwrap_or_default();
            Some(Arguments::parse(tokens, place, Carrier::Aggregation, errors))
        }
        None => {
            errors.on(&ident, "which records? put `#[agent(topic = \"orders\", key = customer)]` on the static");
            None
        }
    };
    let group = arguments.as_ref().and_then(|arguments| {
        if arguments.key.is_none() {
            errors.on(&ident, "an aggregation groups by a field: say which in `#[agent(…, key = customer)]`");
        }
        arguments.key.clone()
    });
    let types = errors.keep(table_types(&table));
    let figures = read_figures(&ident, figures, group.as_ref(), errors);
    let (table, key, value) = types?;
    Some(Declaration {
        attributes,
        visibility,
        ident,
        table,
        key,
        value,
        record,
        arguments: arguments?,
        group: group?,
        figures,
    })
}

fn table_types(table: &Type) -> syn::Result<(TypePath, Type, Type)> {
    if let Type::Path(path) = table
        && let Some(segment) = path.path.segments.last()
        && segment.ident == "Table"
        && let PathArguments::AngleBracketed(arguments) = &segment.arguments
        && let [GenericArgument::Type(key), GenericArgument::Type(value)] =
            arguments.args.iter().collect::<Vec<_>>()[..]
    {
        return Ok((path.clone(), key.clone(), value.clone()));
    }
    Err(syn::Error::new_spanned(
        table,
        "an aggregation is a `Table<K, V>`: the key's type and the record of its figures",
    ))
}

fn read_figures(
    ident: &Ident,
    list: Punctuated<(Ident, Expr), Token![,]>,
    group: Option<&Ident>,
    errors: &mut Errors,
) -> Vec<Figure> {
    if list.is_empty() {
        errors.on(ident, "nothing is aggregated: give fields as in `revenue: sum(amount)`");
    }
    let mut figures: Vec<Figure> = Vec::new();
    let mut seen: Vec<Ident> = Vec::new();
    for (field, expression) in list {
        if group == Some(&field) {
            errors.on(&field, "this field holds the key: it is filled by itself");
        } else if seen.contains(&field) {
            errors.on(&field, format!("`{field}` is given twice"));
        }
        seen.push(field.clone());
        if let Some((word, function)) = errors.keep(read_function(&expression)) {
            figures.push(Figure { field, word, function });
        }
    }
    figures
}

fn read_function(expression: &Expr) -> syn::Result<(Ident, Function)> {
    let usage = || syn::Error::new_spanned(expression, "expected a function of a field, as in `sum(amount)`");
    let Expr::Call(call) = expression else { return Err(usage()) };
    let Expr::Path(path) = &*call.func else { return Err(usage()) };
    let word = path.path.get_ident().ok_or_else(usage)?;
    let text = word.to_string();
    let marker = match text.as_str() {
        "count" if call.args.is_empty() => return Ok((word.clone(), Function::CountRecords)),
        "count" => "Count",
        "sum" => "Sum",
        "min" => "Min",
        "max" => "Max",
        "mean" => "Mean",
        "first" => "First",
        "last" => "Last",
        "fold" => {
            return match (call.args.first(), call.args.len()) {
                (Some(Expr::Closure(closure)), 1) => {
                    Ok((word.clone(), Function::Fold { state: fold_state(closure)?, closure: closure.clone() }))
                }
                _ => Err(fold_usage(call.paren_token.span.join())),
            };
        }
        _ => return Err(unknown_function(word)),
    };
    match (call.args.first(), call.args.len()) {
        (Some(Expr::Path(path)), 1) if path.path.get_ident().is_some() => {
            let field = path.path.require_ident()?.clone();
            Ok((word.clone(), Function::Built { marker, field }))
        }
        (Some(argument), 1) => {
            Err(syn::Error::new_spanned(argument, format!("name one field, as in `{text}(amount)`")))
        }
        _ => Err(syn::Error::new_spanned(call, format!("`{text}` takes one field, as in `{text}(amount)`"))),
    }
}

fn unknown_function(word: &Ident) -> syn::Error {
    let there_are = names::list(&FUNCTIONS);
    let message = match names::closest(&word.to_string(), &FUNCTIONS) {
        Some(meant) => format!("unknown function `{word}`, did you mean `{meant}`? there are {there_are}"),
        None => format!("unknown function `{word}`; there are {there_are}"),
    };
    syn::Error::new(word.span(), message)
}

fn fold_usage(place: Span) -> syn::Error {
    let message = "expected `fold(|state: &mut i64, order: &OrderView<'_>| { …; Ok(()) })`";
    syn::Error::new(place, message)
}

/// The type of a fold's state, from the closure's first parameter.
fn fold_state(closure: &ExprClosure) -> syn::Result<Box<Type>> {
    if let Some(Pat::Type(parameter)) = closure.inputs.first()
        && let Type::Reference(reference) = &*parameter.ty
        && reference.mutability.is_some()
        && closure.inputs.len() == 2
    {
        return Ok(reference.elem.clone());
    }
    Err(fold_usage(closure.inputs.span()))
}
