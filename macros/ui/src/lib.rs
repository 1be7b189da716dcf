//! Nothing but tests: what the compiler says when the macros of gretchen are used wrongly.
