//! The arguments of `#[agent(…)]`.

use proc_macro2::{Ident, Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, ExprPath, Lit, LitInt, LitStr, Token};

use super::policy::{self, OnError};
use crate::errors::Errors;
use crate::names;

/// What carries the attribute, which decides what may be said in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// An async function.
    Function,
    /// The table of an `aggregate!`.
    Aggregation,
}

impl Carrier {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Function => &[
                "topic",
                "topics",
                "key",
                "table",
                "tables",
                "output",
                "outputs",
                "concurrency",
                "on_error",
                "name",
                "group",
            ],
            Self::Aggregation => &["topic", "topics", "key", "table", "output", "on_error", "name", "group"],
        }
    }
}

/// What was said, as far as it could be understood.
#[derive(Default)]
pub(crate) struct Arguments {
    /// The topics that are read; not empty unless an error was reported.
    pub(crate) topics: Vec<LitStr>,
    /// The field that the topic must be keyed by.
    pub(crate) key: Option<Ident>,
    /// The statics that a function's tables are, in the order of its parameters.
    pub(crate) tables: Vec<ExprPath>,
    /// The name of an aggregation's table.
    pub(crate) table_name: Option<LitStr>,
    /// The word `output` or `outputs`, and the topics that are written, at least one unless an error was reported.
    pub(crate) outputs: Option<(Ident, Vec<LitStr>)>,
    /// How many records run at once, and the literal that says it.
    pub(crate) concurrency: Option<(usize, LitInt)>,
    /// What happens to a record that fails.
    pub(crate) on_error: OnError,
    /// The agent's name.
    pub(crate) name: Option<LitStr>,
    /// The consumer group, where it is not the agent's own.
    pub(crate) group: Option<LitStr>,
}

/// One `name = value`.
struct Argument {
    name: Ident,
    value: Expr,
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error("arguments have the form `topic = \"orders\"`"));
        }
        let name = input.call(Ident::parse_any)?;
        if !input.peek(Token![=]) {
            return Err(syn::Error::new(name.span(), format!("arguments have the form `{name} = …`")));
        }
        input.parse::<Token![=]>()?;
        Ok(Self { name, value: input.parse()? })
    }
}

impl Arguments {
    /// Reads what stands between the parentheses of an attribute at `place`.
    pub(crate) fn parse(tokens: TokenStream, place: Span, carrier: Carrier, errors: &mut Errors) -> Self {
        let mut arguments = Self::default();
        let parser = Punctuated::<Argument, Token![,]>::parse_terminated;
        let Some(list) = errors.keep(parser.parse2(tokens)) else { return arguments };
        let mut seen: Vec<Ident> = Vec::new();
        for Argument { name, value } in list {
            if seen.contains(&name) {
                errors.on(&name, format!("`{name}` is given twice"));
                continue;
            }
            if let Err(error) = arguments.take(&name, &value, carrier, errors) {
                errors.add(error);
            }
            seen.push(name);
        }
        arguments.check_topics(&seen, place, errors);
        arguments.check_loops(errors);
        arguments
    }

    fn take(&mut self, name: &Ident, value: &Expr, carrier: Carrier, errors: &mut Errors) -> syn::Result<()> {
        let word = name.to_string();
        if !carrier.arguments().contains(&word.as_str()) {
            return Err(unknown(name, carrier));
        }
        match word.as_str() {
            "topic" => self.topics.push(topic(value, "topic = \"orders\"")?),
            "topics" => {
                for element in elements(value, "topics = [\"orders\", \"returns\"]")? {
                    self.topics.extend(errors.keep(topic(element, "topics = [\"orders\", \"returns\"]")));
                }
            }
            "key" => self.key = Some(field(value)?),
            "table" if carrier == Carrier::Aggregation => {
                let literal = string(value, "table = \"order-totals\"")?;
                names::check("a table", &literal)?;
                self.table_name = Some(literal);
            }
            "table" => self.tables.push(table(value, "table = TOTALS")?),
            "tables" => {
                for element in elements(value, "tables = [TOTALS, LIMITS]")? {
                    self.tables.extend(errors.keep(table(element, "tables = [TOTALS, LIMITS]")));
                }
            }
            "output" => self.outputs = Some((name.clone(), vec![topic(value, "output = \"order-totals\"")?])),
            "outputs" => {
                let example = "outputs = [\"order-totals\", \"alerts\"]";
                let mut topics = Vec::new();
                for element in elements(value, example)? {
                    topics.extend(errors.keep(topic(element, example)));
                }
                self.outputs = Some((name.clone(), topics));
            }
            "concurrency" => self.concurrency = Some(concurrency(value)?),
            "on_error" => self.on_error = policy::parse(value, errors)?,
            "group" => {
                let literal = string(value, "group = \"totals\"")?;
                names::check("a group", &literal)?;
                self.group = Some(literal);
            }
            _ => {
                let literal = string(value, "name = \"total-orders\"")?;
                names::check("an agent", &literal)?;
                self.name = Some(literal);
            }
        }
        Ok(())
    }

    fn check_topics(&self, seen: &[Ident], place: Span, errors: &mut Errors) {
        for (one, many) in [("topic", "topics"), ("table", "tables"), ("output", "outputs")] {
            if let (Some(_), Some(second)) = (position(seen, one), position(seen, many)) {
                errors.on(&seen[second], format!("give either `{one}` or `{many}`"));
            }
        }
        let says_topic = |name: &Ident| {
            let meant = names::closest(&name.to_string(), Carrier::Function.arguments());
            matches!(meant, Some("topic" | "topics"))
        };
        if !seen.iter().any(says_topic) {
            let message = "no topic: say which one the agent reads, as in `#[agent(topic = \"orders\")]`";
            errors.add(syn::Error::new(place, message));
        }
        for (i, topic) in self.topics.iter().enumerate() {
            if self.topics[..i].iter().any(|before| before.value() == topic.value()) {
                errors.on(topic, format!("topic {:?} is given twice", topic.value()));
            }
        }
    }

    /// Refuses outputs that the agent would read again.
    fn check_loops(&self, errors: &mut Errors) {
        let is_input = |topic: &LitStr| self.topics.iter().any(|input| input.value() == topic.value());
        let outputs = self.outputs.as_ref().map_or(&[][..], |(_, topics)| topics);
        for (i, output) in outputs.iter().enumerate() {
            if is_input(output) {
                let message =
                    "the agent reads this topic: it would process its own output again and again, so write another";
                errors.on(output, message);
            }
            if outputs[..i].iter().any(|before| before.value() == output.value()) {
                errors.on(output, format!("topic {:?} is given twice", output.value()));
            }
        }
        let OnError::DeadLetter(dead) = &self.on_error else { return };
        if is_input(dead) {
            errors.on(dead, "the agent reads this topic: a failed record would fail again and again");
        } else if outputs.iter().any(|output| output.value() == dead.value()) {
            errors.on(dead, "the agent's output goes to this topic: failed records need one of their own");
        }
    }
}

fn position(seen: &[Ident], word: &str) -> Option<usize> {
    seen.iter().position(|name| name == word)
}

fn unknown(name: &Ident, carrier: Carrier) -> syn::Error {
    let word = name.to_string();
    let message = match (carrier, word.as_str()) {
        (Carrier::Aggregation, "concurrency") => {
            "an aggregation has a table, whose records are processed one after the other".to_owned()
        }
        (Carrier::Aggregation, "outputs") => {
            "an aggregation puts its table's values out to one topic, named by `output = \"…\"`".to_owned()
        }
        (Carrier::Aggregation, "tables") => "an aggregation has one table, named by `table = \"…\"`".to_owned(),
        _ => match names::closest(&word, carrier.arguments()) {
            Some(meant) => format!("unknown argument `{word}`, did you mean `{meant}`?"),
            None => format!("unknown argument `{word}`; there are {}", names::list(carrier.arguments())),
        },
    };
    syn::Error::new(name.span(), message)
}

fn wrong(value: &Expr, example: &str) -> syn::Error {
    syn::Error::new_spanned(value, format!("expected a value as in `{example}`"))
}

fn string(value: &Expr, example: &str) -> syn::Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => Ok(literal.clone()),
        _ => Err(wrong(value, example)),
    }
}

fn topic(value: &Expr, example: &str) -> syn::Result<LitStr> {
    let literal = string(value, example)?;
    names::check("a topic", &literal)?;
    Ok(literal)
}

fn table(value: &Expr, example: &str) -> syn::Result<ExprPath> {
    match value {
        Expr::Path(path) => Ok(path.clone()),
        Expr::Reference(reference) => Err(syn::Error::new_spanned(value, {
            let table = &reference.expr;
            format!("name the static itself: `{}`", quote::quote!(#table))
        })),
        _ => Err(wrong(value, example)),
    }
}

fn elements<'a>(value: &'a Expr, example: &str) -> syn::Result<impl Iterator<Item = &'a Expr>> {
    match value {
        Expr::Array(array) if array.elems.is_empty() => {
            Err(syn::Error::new_spanned(value, format!("this list is empty; expected one as in `{example}`")))
        }
        Expr::Array(array) => Ok(array.elems.iter()),
        _ => Err(wrong(value, example)),
    }
}

fn field(value: &Expr) -> syn::Result<Ident> {
    match value {
        Expr::Path(path) => path.path.require_ident().cloned().map_err(|_| wrong(value, "key = customer")),
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => {
            let message = format!("name the field without quotes: `key = {}`", literal.value());
            Err(syn::Error::new(value.span(), message))
        }
        _ => Err(wrong(value, "key = customer")),
    }
}

fn concurrency(value: &Expr) -> syn::Result<(usize, LitInt)> {
    let Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) = value else {
        return Err(wrong(value, "concurrency = 4"));
    };
    match literal.base10_parse::<usize>()? {
        0 => Err(syn::Error::new(value.span(), "nothing would run; 1 is one record after the other")),
        limit => Ok((limit, literal.clone())),
    }
}
