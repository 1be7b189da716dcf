::core::compile_error! {
    "\"a b\" cannot name a topic: it holds ' '; use 1 to 249 of a-z A-Z 0-9 . _ -"
}
::core::compile_error! {
    "an aggregation has a table, whose records are processed one after the other"
}
::core::compile_error! {
    "an aggregation groups by a field: say which in `#[agent(…, key = customer)]`"
}
::core::compile_error! {
    "an aggregation is a `Table<K, V>`: the key's type and the record of its figures"
}
::core::compile_error! {
    "unknown function `summ`, did you mean `sum`? there are `count`, `sum`, `min`, `max`, `mean`, `first`, `last` and `fold`"
}
::core::compile_error! {
    "name one field, as in `mean(amount)`"
}
::core::compile_error! {
    "`mean` is given twice"
}
::core::compile_error! {
    "expected `fold(|state: &mut i64, order: &OrderView<'_>| { …; Ok(()) })`"
}
