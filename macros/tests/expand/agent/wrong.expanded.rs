fn watch(order: &Order, other: u32) -> Order {
    order.clone()
}
::core::compile_error! {
    "unknown argument `topik`, did you mean `topic`?"
}
::core::compile_error! {
    "nothing would run; 1 is one record after the other"
}
::core::compile_error! {
    "an agent is an `async fn`"
}
::core::compile_error! {
    "an agent owns what it is given: take it by value, `Order`"
}
::core::compile_error! {
    "nothing can be given for this parameter: after the records come `TableMut<'_, K, V>` for each table and `Output<T>` for each output"
}
