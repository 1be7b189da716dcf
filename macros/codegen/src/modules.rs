//! Where generated types stand: a module for each part of a namespace, and no name twice.

use std::collections::BTreeMap;

use gretchen_schema::{Named, Place, SchemaError};
use proc_macro2::TokenStream;
use quote::quote;

use super::{Namespaces, names};

/// Rust names that are given away, and where.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<String, (String, Place)>);

impl Taken {
    pub(super) fn take(&mut self, what: &str, name: &str, place: &Place) -> Result<(), SchemaError> {
        match self.0.insert(name.to_owned(), (what.to_owned(), place.clone())) {
            None => Ok(()),
            Some((before, first)) => {
                let before = if before == what { String::new() } else { format!(" (a {before})") };
                let message =
                    format!("{what} `{name}` would be generated from here and from {first}{before}; rename one");
                Err(SchemaError { place: place.clone(), message })
            }
        }
    }
}

/// The modules of a namespace, outermost first.
pub(super) fn modules_of(namespaces: Namespaces, named: &Named) -> Vec<String> {
    match namespaces {
        Namespaces::Nested if !named.namespace().is_empty() => {
            named.namespace().split('.').map(names::module_name).collect()
        }
        _ => Vec::new(),
    }
}

/// The way from one module to a type in another. It is the shortest one, so that it never leaves the outermost module
/// that both are in: the call may stand in a function, which no path leads out of.
pub(super) fn path(from: &[String], to: &[String], name: &str) -> TokenStream {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| quote!(super::));
    let down = to[common..].iter().map(|part| names::ident(part));
    let name = names::ident(name);
    quote!(#(#up)* #(#down::)* #name)
}

/// The items of all modules.
pub(super) struct Modules {
    namespaces: Namespaces,
    taken: Taken,
    root: Module,
}

#[derive(Default)]
struct Module {
    items: TokenStream,
    /// With their namespaces.
    modules: BTreeMap<String, (String, Module)>,
}

impl Modules {
    pub(super) fn new(namespaces: Namespaces) -> Self {
        Self { namespaces, taken: Taken::default(), root: Module::default() }
    }

    /// Gives a name in the module of `named` away.
    pub(super) fn take(&mut self, named: &Named, name: &str, place: &Place) -> Result<(), SchemaError> {
        let mut path = String::new();
        for part in modules_of(self.namespaces, named) {
            path.push_str(&part);
            // Modules are shared, types are not.
            if self.taken.0.get(&path).is_none_or(|(what, _)| what != "module") {
                self.taken.take("module", &path, place)?;
            }
            path.push_str("::");
        }
        self.taken.take("type", &format!("{path}{name}"), place)
    }

    pub(super) fn add(&mut self, named: &Named, items: TokenStream) {
        let mut module = &mut self.root;
        let mut parts = named.namespace().split('.');
        let mut namespace = String::new();
        for name in modules_of(self.namespaces, named) {
            let dot = if namespace.is_empty() { "" } else { "." };
            namespace = format!("{namespace}{dot}{}", parts.next().unwrap_or_default());
            module = &mut module.modules.entry(name).or_insert_with(|| (namespace.clone(), Module::default())).1;
        }
        module.items.extend(items);
    }

    pub(super) fn into_tokens(self) -> TokenStream {
        self.root.into_tokens()
    }
}

impl Module {
    fn into_tokens(self) -> TokenStream {
        let Self { items, modules } = self;
        let modules = modules.into_iter().map(|(name, (namespace, module))| {
            let doc = format!("Namespace `{namespace}`.");
            let name = names::ident(&name);
            let items = module.into_tokens();
            quote! {
                #[doc = #doc]
                pub mod #name {
                    #items
                }
            }
        });
        quote!(#items #(#modules)*)
    }
}
