//! What `#[agent]` emits beside the function.
//!
//! Names of locals are `mixed_site`, so that they cannot shadow the user's function. Tokens that the compiler may
//! complain about carry the place of what the user typed.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, LitStr, Type, Visibility};

use super::arguments::Arguments;
use super::signature::{Extra, Function, Handler, Records, Shape, help};

/// An `AgentDef` in the making, for functions and aggregations.
pub(crate) struct Definition<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) attributes: &'a [Attribute],
    pub(crate) visibility: &'a Visibility,
    /// Of the function or the static; the place of the agent.
    pub(crate) ident: &'a Ident,
    /// The brace struct.
    pub(crate) agent: &'a Ident,
    pub(crate) name: String,
    /// The type of the records.
    pub(crate) record: &'a Type,
    pub(crate) shape: TokenStream,
    /// Paths of the tables' statics.
    pub(crate) tables: Vec<TokenStream>,
    /// Expressions of an `OutputDef` each.
    pub(crate) outputs: Vec<TokenStream>,
    /// Expression of a `fn(Task) -> AgentFuture`.
    pub(crate) start: TokenStream,
}

impl Definition<'_> {
    /// The brace struct, its `Agent` and its submission.
    pub(crate) fn emit(&self) -> TokenStream {
        let Self { visibility, agent, record, shape, tables, outputs, start, .. } = self;
        let name = self.arguments.name.as_ref().map_or_else(|| self.name.clone(), LitStr::value);
        let help = help(self.attributes);
        let topics = &self.arguments.topics;
        let (key_constants, key) = self.key();
        let place = self.ident.span();
        let file = quote_spanned!(place=> ::core::file!());
        let line = quote_spanned!(place=> ::core::line!());
        let concurrency = self.arguments.concurrency.as_ref().map_or(1, |(limit, _)| *limit);
        let on_error = self.arguments.on_error.emit();
        let group = match &self.arguments.group {
            Some(group) => quote!(::core::option::Option::Some(#group)),
            None => quote!(::core::option::Option::None),
        };
        quote! {
            #[doc(hidden)]
            #[allow(non_camel_case_types)]
            #visibility struct #agent {}

            impl ::gretchen::__private::Agent for #agent {
                const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
                    name: #name,
                    help: #help,
                    file: #file,
                    line: #line,
                    topics: &[#(#topics),*],
                    key: #key,
                    tables: &[#(|| #tables.def()),*],
                    outputs: &[#(#outputs),*],
                    group: #group,
                    concurrency: #concurrency,
                    on_error: #on_error,
                    shape: ::gretchen::__private::Shape::#shape,
                    input: <#record as ::gretchen::__private::Value>::SCHEMA,
                    plain: <#record as ::gretchen::__private::Value>::PLAIN,
                    start: #start,
                };
            }

            ::gretchen::__private::inventory::submit! {
                ::gretchen::__private::Submitted(<#agent as ::gretchen::__private::Agent>::DEF)
            }

            #key_constants
        }
    }

    /// The constants that look the key's field up, and the `Option<KeyDef>`.
    fn key(&self) -> (Option<TokenStream>, TokenStream) {
        let Some(key) = &self.arguments.key else { return (None, quote!(::core::option::Option::None)) };
        let place = key.span();
        let record = at(self.record, place);
        let has_field = has_field(self.agent, key);
        let id = field_constant(self.agent, key);
        let name = quote_spanned!(place=> <#record as #has_field>::FIELD);
        let rekey = quote_spanned!(place=> ::gretchen::__private::rekey::<#record, { #id }>);
        let definition = quote! {
            ::core::option::Option::Some(::gretchen::__private::KeyDef { field: #name, start_rekey: #rekey })
        };
        (Some(field_constants(self.agent, self.record, std::slice::from_ref(key))), definition)
    }
}

/// The same tokens at another place.
fn at(tokens: &impl ToTokens, place: Span) -> TokenStream {
    let respan = |mut tree: TokenTree| {
        if let TokenTree::Group(group) = &tree {
            tree = TokenTree::Group(Group::new(group.delimiter(), at(&group.stream(), place)));
        }
        tree.set_span(tree.span().located_at(place));
        tree
    };
    tokens.to_token_stream().into_iter().map(respan).collect()
}

/// The constant of [`field_constants`] for one field.
pub(crate) fn field_constant(agent: &Ident, field: &Ident) -> TokenStream {
    let constant = format_ident!("field_{}", field.unraw());
    quote_spanned!(field.span()=> #agent::#constant)
}

/// `HasField` of a field that has a constant, placed at its name.
pub(crate) fn has_field(agent: &Ident, field: &Ident) -> TokenStream {
    let constant = field_constant(agent, field);
    quote_spanned!(field.span()=> ::gretchen::__private::HasField<{ #constant }>)
}

/// Constants that find fields by name, and the compiler's own check that lists the fields there are.
pub(crate) fn field_constants(agent: &Ident, record: &Type, fields: &[Ident]) -> TokenStream {
    let constants = fields.iter().map(|field| {
        let name = field.unraw().to_string();
        let constant = format_ident!("field_{name}");
        let otherwise = format!("`{name}` is no scalar field of the record");
        let record = at(record, field.span());
        quote_spanned! {field.span()=>
            const #constant: u64 = ::gretchen::__private::scalar_field(
                <#record as ::gretchen::__private::Record>::SCHEMA,
                #name,
                #otherwise,
            );
        }
    });
    let check = field_check(record, fields);
    quote! {
        #[allow(non_upper_case_globals)]
        impl #agent {
            #(#constants)*
        }

        #check
    }
}

/// Names fields of a record's view, so that the compiler itself says which one does not exist.
fn field_check(record: &Type, fields: &[Ident]) -> TokenStream {
    let view = Ident::new("view", Span::mixed_site());
    quote! {
        const _: fn(&<#record as ::gretchen::__private::Record>::View<'_>) = |#view| {
            #(let _ = &#view.#fields;)*
        };
    }
}

/// The definition of where records go.
fn output_def(topic: &LitStr, record: &Type, keeps_key: bool) -> TokenStream {
    quote! {
        ::gretchen::__private::OutputDef {
            topic: #topic,
            schema: <#record as ::gretchen::__private::Value>::SCHEMA,
            plain: <#record as ::gretchen::__private::Value>::PLAIN,
            keeps_key: #keeps_key,
        }
    }
}

/// Everything that stands beside a function.
pub(super) fn registration(function: &Function, arguments: &Arguments, handler: &Handler) -> TokenStream {
    let ident = &function.signature.ident;
    let shape = match handler.input.shape {
        Shape::Record => quote!(Record),
        Shape::Event => quote!(Event),
        Shape::Batch => quote!(Batch),
        Shape::Stream => quote!(Stream),
    };
    let topics = arguments.outputs.iter().flat_map(|(_, topics)| topics);
    let records = handler.returns.iter().chain(handler.outputs());
    // The outputs of a batch come from many records.
    let keeps_key = |records: &Records| !records.keyed && handler.input.shape != Shape::Batch;
    let outputs =
        topics.zip(records).map(|(topic, records)| output_def(topic, &records.record, keeps_key(records))).collect();
    Definition {
        arguments,
        attributes: &function.attributes,
        visibility: &function.visibility,
        ident,
        agent: ident,
        name: ident.unraw().to_string(),
        record: &handler.input.record,
        shape,
        tables: arguments.tables.iter().map(|table| quote!(#table)).collect(),
        outputs,
        start: start(ident, arguments, handler),
    }
    .emit()
}

/// The locals of a generated start function.
struct Locals {
    task: Ident,
    input: Ident,
    item: Ident,
}

impl Locals {
    fn new() -> Self {
        let local = |name| Ident::new(name, Span::mixed_site());
        Self { task: local("task"), input: local("input"), item: local("item") }
    }
}

/// The closure that runs the agent on one partition.
fn start(function: &Ident, arguments: &Arguments, handler: &Handler) -> TokenStream {
    let locals = Locals::new();
    let Locals { task, .. } = &locals;
    let body = if arguments.concurrency.as_ref().is_some_and(|(limit, _)| *limit > 1) {
        concurrent_body(function, arguments, handler, &locals)
    } else if handler.input.shape == Shape::Stream {
        stream_body(function, arguments, handler, &locals)
    } else {
        loop_body(function, arguments, handler, &locals)
    };
    quote! {
        |#task| ::std::boxed::Box::pin(async move { #body })
    }
}

fn loop_body(function: &Ident, arguments: &Arguments, handler: &Handler, locals: &Locals) -> TokenStream {
    let Locals { input, item, .. } = locals;
    let open_input = open_input(handler, locals);
    let (open, extras) = extras(arguments, handler, locals);
    let next = match handler.input.shape {
        Shape::Event => quote!(next_event),
        Shape::Batch => quote!(next_batch),
        Shape::Record | Shape::Stream => quote!(next),
    };
    let finish = returned(handler, quote!(finish));
    quote! {
        let mut #input = #open_input;
        #open
        while let ::core::option::Option::Some(#item) = #input.#next().await {
            #input.#finish(#function(#item #(, #extras)*).await)?;
        }
        ::core::result::Result::Ok(())
    }
}

fn stream_body(function: &Ident, arguments: &Arguments, handler: &Handler, locals: &Locals) -> TokenStream {
    let Locals { input, .. } = locals;
    let open_input = open_input(handler, locals);
    let (open, extras) = extras(arguments, handler, locals);
    let finish = returned(handler, quote!(finish_stream));
    quote! {
        let #input = #open_input.into_stream();
        #open
        ::gretchen::__private::#finish(#function(#input #(, #extras)*).await)
    }
}

fn concurrent_body(function: &Ident, arguments: &Arguments, handler: &Handler, locals: &Locals) -> TokenStream {
    let Locals { input, item, .. } = locals;
    let open_input = open_input(handler, locals);
    let limit = arguments.concurrency.as_ref().map_or(1, |(limit, _)| *limit);
    let run = match handler.input.shape {
        Shape::Event => quote!(concurrently_events),
        Shape::Record | Shape::Batch | Shape::Stream => quote!(concurrently),
    };
    quote! {
        let #input = #open_input;
        ::gretchen::__private::#run(#input, #limit, |#item| #function(#item)).await
    }
}

fn open_input(handler: &Handler, locals: &Locals) -> TokenStream {
    let Locals { task, .. } = locals;
    let record = &handler.input.record;
    quote!(#task.input::<#record>()?)
}

/// `name::<the return type>`, so that a type which cannot be put out is underlined where it stands.
fn returned(handler: &Handler, name: TokenStream) -> TokenStream {
    match &handler.return_type {
        Some(whole) => quote!(#name::<#whole>),
        None => name,
    }
}

/// Statements that open tables, and the arguments after the first.
fn extras(arguments: &Arguments, handler: &Handler, locals: &Locals) -> (TokenStream, Vec<TokenStream>) {
    let Locals { task, .. } = locals;
    let mut outputs = 0_usize;
    let mut tables = arguments.tables.iter().enumerate();
    let mut open = TokenStream::new();
    let mut given = Vec::new();
    for extra in &handler.extras {
        match extra {
            Extra::Table(whole) => {
                let Some((i, table)) = tables.next() else { continue };
                let place = Span::mixed_site().located_at(whole.span());
                let local = Ident::new(&format!("table{i}"), place);
                open.extend(quote!(let mut #local = #task.table(&#table)?;));
                given.push(quote_spanned!(place=> #local.as_mut()));
            }
            Extra::Output(records) => {
                let record = &records.record;
                let local = Ident::new(&format!("output{outputs}"), Span::mixed_site());
                open.extend(quote!(let #local = #task.output::<#record>(#outputs);));
                given.push(quote!(#local.clone()));
                outputs += 1;
            }
        }
    }
    (open, given)
}
