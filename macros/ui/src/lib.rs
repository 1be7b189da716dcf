//! Nothing but tests: every compile error of the macros, a file under `tests/ui` with the compiler's words beside it.
