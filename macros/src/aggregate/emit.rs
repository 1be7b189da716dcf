//! What `aggregate!` emits: the static, its state, the fold and the agent.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, parse_quote};

use super::parse::{Declaration, Figure, Function};
use crate::agent::{Definition, field_constant, field_constants, has_field, help};

/// Everything that one declaration becomes.
pub(super) fn emit(declaration: &Declaration) -> TokenStream {
    let names = Names::of(declaration);
    let table = emit_static(declaration, &names);
    let state = emit_state(declaration, &names);
    let table_state = emit_table_state(declaration, &names);
    let aggregation = emit_aggregation(declaration, &names);
    let constants = emit_constants(declaration, &names);
    let agent = emit_agent(declaration, &names);
    // The compiler reports in this order: the first error should be the one on the user's figure.
    quote!(#constants #state #table #table_state #aggregation #agent)
}

/// Names that are made from the static's.
struct Names {
    /// The state's type.
    state: Ident,
    /// The brace struct of the agent, and the agent's name.
    agent: Ident,
    /// The name of the table.
    table: String,
}

impl Names {
    fn of(declaration: &Declaration) -> Self {
        let snake = declaration.ident.unraw().to_string().to_lowercase();
        let camel: String = snake
            .split('_')
            .map(|word| {
                word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>()
            })
            .collect();
        let given = declaration.arguments.table_name.as_ref().map(|name| name.value());
        Self {
            state: format_ident!("__{camel}State", span = declaration.ident.span()),
            agent: Ident::new(&snake, declaration.ident.span()),
            table: given.unwrap_or_else(|| snake.replace('_', "-")),
        }
    }
}

impl Figure {
    /// The marker type of the function.
    fn marker(&self) -> TokenStream {
        match &self.function {
            Function::CountRecords => quote!(::gretchen::__private::CountRecords),
            Function::Built { marker, .. } => {
                let marker = Ident::new(marker, self.word.span());
                quote!(::gretchen::__private::#marker)
            }
            Function::Fold { .. } => quote!(::gretchen::__private::Fold),
        }
    }

    /// The constant that stands for the input field, and has no value where the function does not fit it.
    fn constant(&self) -> Ident {
        format_ident!("figure_{}", self.field.unraw())
    }

    /// `HasField` of the input field.
    fn has_field(&self, agent: &Ident, field: &Ident) -> TokenStream {
        let constant = self.constant();
        quote_spanned!(field.span()=> ::gretchen::__private::HasField<{ #agent::#constant }>)
    }

    /// The type of the accumulator.
    fn accumulator(&self, agent: &Ident, record: &syn::Type) -> TokenStream {
        let place = self.word.span();
        let marker = self.marker();
        match &self.function {
            Function::CountRecords => quote!(::gretchen::__private::Tally),
            Function::Built { field, .. } => {
                let has_field = self.has_field(agent, field);
                let field = quote_spanned!(field.span()=> <#record as #has_field>::Type);
                quote_spanned!(place=> <#marker as ::gretchen::__private::Aggregate<#field>>::Acc)
            }
            Function::Fold { state, .. } => quote!(::gretchen::__private::Fold<#state>),
        }
    }

    /// Whether folding a record into it may fail: only then is the state at risk.
    fn may_fail(&self) -> bool {
        matches!(&self.function, Function::Fold { .. } | Function::Built { marker: "Sum" | "Mean", .. })
    }

    /// The function as it was written, for the stored layout.
    fn text(&self) -> String {
        match &self.function {
            Function::CountRecords => "count()".to_owned(),
            Function::Built { field, .. } => format!("{}({})", self.word, field.unraw()),
            Function::Fold { .. } => "fold".to_owned(),
        }
    }
}

/// The type of a record's field.
fn field_type(agent: &Ident, record: &syn::Type, field: &Ident) -> TokenStream {
    let has_field = has_field(agent, field);
    quote_spanned!(field.span()=> <#record as #has_field>::Type)
}

fn emit_static(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { attributes, visibility, ident, arguments, .. } = declaration;
    let mut table = declaration.table.clone();
    let state = &names.state;
    if let Some(segment) = table.path.segments.last_mut()
        && let PathArguments::AngleBracketed(arguments) = &mut segment.arguments
    {
        arguments.args.push(GenericArgument::Type(parse_quote!(#state)));
    }
    let name = &names.table;
    let output = arguments.outputs.as_ref().and_then(|(_, topics)| topics.first()).map(|topic| quote!(.output(#topic)));
    let help = help(attributes);
    let help = (!help.is_empty()).then(|| quote!(.help(#help)));
    quote! {
        #(#attributes)*
        #visibility static #ident: #table = ::gretchen::__private::Table::new(#name) #output #help;
    }
}

fn emit_state(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { visibility, ident, record, figures, .. } = declaration;
    let state = &names.state;
    let doc = format!(" What `{ident}` keeps for each key.");
    let fields = figures.iter().map(|figure| {
        let field = &figure.field;
        let accumulator = figure.accumulator(&names.agent, record);
        quote!(#field: #accumulator)
    });
    quote! {
        #[doc = #doc]
        #[doc(hidden)]
        #[derive(Clone, Debug, Default)]
        #visibility struct #state {
            #(#fields,)*
        }
    }
}

fn emit_table_state(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { key, value, group, figures, record, .. } = declaration;
    let state = &names.state;
    let fields: Vec<&Ident> = figures.iter().map(|figure| &figure.field).collect();
    let accumulators: Vec<TokenStream> =
        figures.iter().map(|figure| figure.accumulator(&names.agent, record)).collect();
    let texts = figures.iter().map(|figure| format!("{}: {} as ", figure.field.unraw(), figure.text()));
    let group_name = group.unraw().to_string();
    let group_type = field_type(&names.agent, record, group);
    let group_key = quote_spanned!(group.span()=> <#group_type as ::gretchen::__private::KeyField>::Key);
    let fill_key = quote_spanned!(group.span()=> #group: ::core::convert::Into::into(key));
    // Without a rest, so that the compiler names a field that is left out or does not exist.
    let fill = figures.iter().map(|figure| {
        let field = &figure.field;
        let name = field.unraw().to_string();
        quote_spanned! {field.span()=>
            #field: ::gretchen::__private::Finish::finish(&self.#field)
                .map_err(|error| ::gretchen::__private::encode_failed(#name, &error))?
        }
    });
    quote! {
        impl ::gretchen::__private::TableState<#key, #value> for #state {
            fn encode_state(
                &self,
                out: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
                #(::gretchen::__private::Accumulator::encode(&self.#fields, out);)*
                ::core::result::Result::Ok(())
            }

            fn decode_state(
                bytes: &[u8],
            ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
                let mut rest = bytes;
                let state = Self {
                    #(#fields: ::gretchen::__private::Accumulator::decode(&mut rest)?,)*
                };
                if rest.is_empty() {
                    return ::core::result::Result::Ok(state);
                }
                ::core::result::Result::Err(::gretchen::__private::DecodeError::at_field(
                    "-",
                    bytes.len() - rest.len(),
                    ::std::format!("{} bytes are left over after the last accumulator", rest.len()),
                ))
            }

            fn value(&self, key: &[u8]) -> ::core::result::Result<#value, ::gretchen::__private::EncodeError> {
                let key = <#group_key as ::gretchen::__private::Key>::decode_key(key)
                    .map_err(|error| ::gretchen::__private::encode_failed(#group_name, &error))?;
                ::core::result::Result::Ok(#value { #fill_key, #(#fill,)* })
            }

            fn layout() -> ::std::string::String {
                let mut layout = ::std::string::String::new();
                #(
                    layout.push_str(#texts);
                    layout.push_str(<#accumulators as ::gretchen::__private::Accumulator>::LAYOUT);
                    layout.push('\n');
                )*
                layout
            }
        }
    }
}

fn emit_aggregation(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { key, value, record, group, figures, .. } = declaration;
    let Names { state, agent, .. } = names;
    let group_field = has_field(agent, group);
    let group_type = field_type(agent, record, group);
    let key_bytes = quote_spanned! {group.span()=>
        <#group_type as ::gretchen::__private::KeyField>::key_bytes(<#record as #group_field>::get(view), scratch)
    };
    // Keys are compared as bytes, so that another type would decode them into something else.
    let place = Span::mixed_site().located_at(key.span());
    let key_check = quote_spanned! {place=>
        const _: fn(
            ::core::marker::PhantomData<#key>,
        ) -> ::core::marker::PhantomData<<#group_type as ::gretchen::__private::KeyField>::Key> = |key| key;
    };
    // What may fail works on copies, so that a failure leaves the state as it was; the rest follows in place.
    let (risky, safe): (Vec<&Figure>, Vec<&Figure>) = figures.iter().partition(|figure| figure.may_fail());
    let copies = risky.iter().map(|figure| {
        let field = &figure.field;
        let local = local(field);
        let fold = fold(figure, agent, record, &quote!(#local));
        quote! {
            let mut #local = ::core::clone::Clone::clone(&state.#field);
            #fold
        }
    });
    let in_place = safe.iter().map(|figure| {
        let field = &figure.field;
        fold(figure, agent, record, &quote!(state.#field))
    });
    let keep = risky.iter().map(|figure| {
        let field = &figure.field;
        let local = local(field);
        quote!(state.#field = #local;)
    });
    quote! {
        #key_check

        impl ::gretchen::__private::Aggregation for #agent {
            type Record = #record;
            type Key = #key;
            type Value = #value;
            type State = #state;

            #[inline]
            fn key<'v>(
                view: &'v <#record as ::gretchen::__private::Record>::View<'_>,
                scratch: &'v mut ::std::vec::Vec<u8>,
            ) -> ::core::option::Option<&'v [u8]> {
                #key_bytes
            }

            #[inline]
            fn fold(
                state: &mut #state,
                view: &<#record as ::gretchen::__private::Record>::View<'_>,
            ) -> ::core::result::Result<(), ::gretchen::__private::AggregateError> {
                #(#copies)*
                #(#in_place)*
                #(#keep)*
                ::core::result::Result::Ok(())
            }
        }
    }
}

/// The copy of a figure's accumulator.
fn local(field: &Ident) -> Ident {
    format_ident!("next_{}", field.unraw(), span = Span::mixed_site())
}

/// The statement that folds a record into an accumulator.
fn fold(figure: &Figure, agent: &Ident, record: &syn::Type, accumulator: &TokenStream) -> TokenStream {
    let marker = figure.marker();
    match &figure.function {
        Function::CountRecords => quote!(::gretchen::__private::CountRecords::fold(&mut #accumulator);),
        Function::Built { field, .. } => {
            let has_field = figure.has_field(agent, field);
            let field_type = quote_spanned!(field.span()=> <#record as #has_field>::Type);
            quote_spanned! {figure.word.span()=>
                <#marker as ::gretchen::__private::Aggregate<#field_type>>::fold(
                    &mut #accumulator,
                    <#record as #has_field>::get(view),
                )?;
            }
        }
        Function::Fold { state, closure } => quote! {
            {
                let fold: fn(
                    &mut #state,
                    &<#record as ::gretchen::__private::Record>::View<'_>,
                ) -> ::core::result::Result<(), ::gretchen::__private::AggregateError> = #closure;
                let mut next = ::core::clone::Clone::clone(#accumulator.get());
                fold(&mut next, view)?;
                #accumulator.set(next);
            }
        },
    }
}

/// Constants that find the fields which are read; the key's comes with the agent.
fn emit_constants(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { record, group, figures, .. } = declaration;
    let mut read: Vec<Ident> = Vec::new();
    for figure in figures {
        if let Function::Built { field, .. } = &figure.function
            && field != group
            && !read.contains(field)
        {
            read.push(field.clone());
        }
    }
    let found = field_constants(&names.agent, record, &read);
    let fits = figures.iter().filter_map(|figure| emit_fits(figure, &names.agent, record));
    let agent = &names.agent;
    quote! {
        #found

        #[allow(non_upper_case_globals)]
        impl #agent {
            #(#fits)*
        }
    }
}

/// The constant of a figure over a field; see [`Figure::constant`].
fn emit_fits(figure: &Figure, agent: &Ident, record: &syn::Type) -> Option<TokenStream> {
    let Function::Built { field, .. } = &figure.function else { return None };
    let (constant, marker, word) = (figure.constant(), figure.marker(), &figure.word);
    let field_type = field_type(agent, record, field);
    let found = field_constant(agent, field);
    let takes = match word.to_string().as_str() {
        "sum" | "mean" => "int, long, float, double and decimal fields",
        "min" | "max" => "number, decimal, string, boolean, date, timestamp and uuid fields",
        _ => "scalar fields",
    };
    let otherwise = format!("`{word}` cannot be computed over `{}`: it takes {takes}", field.unraw());
    // Where the figure fits, the trait that stands in for a missing constant is not used.
    Some(quote_spanned! {word.span()=>
        const #constant: u64 = {
            #[allow(unused_imports)]
            use ::gretchen::__private::DoesNotFit as _;
            if !<::gretchen::__private::Fits<#marker, #field_type>>::FITS {
                ::core::panic!(#otherwise);
            }
            #found
        };
    })
}

fn emit_agent(declaration: &Declaration, names: &Names) -> TokenStream {
    let Declaration { attributes, visibility, ident, record, arguments, .. } = declaration;
    let agent = &names.agent;
    Definition {
        arguments,
        attributes,
        visibility,
        ident,
        agent,
        name: agent.to_string(),
        record,
        shape: quote!(Aggregate),
        tables: vec![quote!(#ident)],
        // The table puts its values out itself.
        outputs: Vec::new(),
        start: quote!(|task| ::gretchen::__private::aggregate::<#agent>(task, &#ident)),
    }
    .emit()
}
