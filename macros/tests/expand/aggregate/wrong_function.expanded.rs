pub(crate) static TOTALS: Table<String, OrderTotal> = ::gretchen::__private::Table::new(
    "",
);
::core::compile_error! {
    "unknown function `summ`, did you mean `sum`? there are `count`, `sum`, `min`, `max`, `mean`, `first`, `last` and `fold`"
}
