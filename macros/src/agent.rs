//! `#[agent(…)]`: an async function that reads a topic.
//!
//! The function is emitted as it is, whatever is wrong. Beside it stands a brace struct of its name, so that
//! `total_orders` names the function as a value and the agent as a type.

mod arguments;
mod emit;
mod policy;
mod signature;

use proc_macro2::{Span, TokenStream};
use quote::quote;

pub(crate) use self::arguments::{Arguments, Carrier};
pub(crate) use self::emit::{Definition, field_constant, field_constants, has_field};
pub(crate) use self::signature::help;
use self::signature::{Function, Handler, Shape};
use crate::errors::Errors;

/// Expands the attribute on `item`.
pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let arguments = Arguments::parse(attribute, Span::call_site(), Carrier::Function, &mut errors);
    let registration = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => Handler::read(&function.signature, &mut errors).and_then(|handler| {
            check(&arguments, &handler, &mut errors);
            errors.is_empty().then(|| emit::registration(&function, &arguments, &handler))
        }),
        Err(_) => {
            errors.add(syn::Error::new(Span::call_site(), "`#[agent]` goes on an `async fn`"));
            None
        }
    };
    let errors = errors.into_compile_errors();
    quote! {
        #item
        #registration
        #errors
    }
}

/// Checks the arguments against the signature.
fn check(arguments: &Arguments, handler: &Handler, errors: &mut Errors) {
    check_tables(arguments, handler, errors);
    check_output(arguments, handler, errors);
    let Some((limit @ 2.., literal)) = &arguments.concurrency else { return };
    if handler.tables().next().is_some() || !arguments.tables.is_empty() {
        let message =
            format!("an agent with a table processes one record after the other: {limit} could not keep it right");
        errors.on(literal, message);
    }
    match handler.input.shape {
        Shape::Record | Shape::Event => {}
        Shape::Batch => {
            errors.on(literal, "a batch is processed as a whole; take records or events to run them side by side")
        }
        Shape::Stream => errors
            .on(literal, "a stream agent asks for its records itself; take records or events to run them side by side"),
    }
    if let (None, Some(output)) = (&handler.returns, handler.output()) {
        errors.on(&output.whole, "with `concurrency` return what is put out, so that it is committed with its record");
    }
}

fn check_tables(arguments: &Arguments, handler: &Handler, errors: &mut Errors) {
    let parameters: Vec<&syn::Type> = handler.tables().collect();
    for whole in parameters.iter().skip(arguments.tables.len()) {
        let message = if arguments.tables.is_empty() {
            "which table? name its static in `#[agent(…, table = TOTALS)]`"
        } else {
            "`tables` names fewer tables than there are `TableMut` parameters"
        };
        errors.on(whole, message);
    }
    for table in arguments.tables.iter().skip(parameters.len()) {
        let message = if parameters.is_empty() {
            "the function has no parameter for this table: add `mut table: TableMut<'_, K, V>`"
        } else {
            "the function has fewer `TableMut` parameters than tables are named"
        };
        errors.on(table, message);
    }
}

fn check_output(arguments: &Arguments, handler: &Handler, errors: &mut Errors) {
    match (&arguments.outputs, handler.output()) {
        (None, Some(output)) => {
            errors.on(&output.whole, "where to? name the topic in `#[agent(…, output = \"order-totals\")]`");
        }
        (Some((word, topics)), None) => {
            let topic = topics.first().map(syn::LitStr::value).unwrap_or_default();
            let message = if arguments.tables.is_empty() {
                "nothing is put out: return a record, or take an `Output<T>` parameter".to_owned()
            } else {
                format!(
                    "the function puts nothing out: return a record, or let the table put its values out with \
                     `Table::new(…).output({topic:?})`"
                )
            };
            errors.on(word, message);
        }
        (Some((_, topics)), Some(_)) => check_each_output(topics, handler, errors),
        (None, None) => {}
    }
}

/// A returned record goes to one topic; each `Output` parameter has one of its own.
fn check_each_output(topics: &[syn::LitStr], handler: &Handler, errors: &mut Errors) {
    if handler.returns.is_some() {
        for more in topics.iter().skip(1) {
            errors.on(more, "what is returned goes to one topic; for several take an `Output<T>` parameter for each");
        }
        return;
    }
    let parameters: Vec<_> = handler.outputs().collect();
    for more in parameters.iter().skip(topics.len()) {
        let message =
            "which topic? name one for each `Output` parameter, in their order: `outputs = [\"alerts\", \"totals\"]`";
        errors.on(&more.whole, message);
    }
    for topic in topics.iter().skip(parameters.len()) {
        errors.on(topic, "the function has no parameter for this topic: add `mut output: Output<T>`");
    }
}
