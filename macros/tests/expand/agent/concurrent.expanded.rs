async fn notify(event: Event<model::Order>) -> Result<(), String> {
    Ok(())
}
#[doc(hidden)]
#[allow(non_camel_case_types)]
struct notify {}
impl ::gretchen::__private::Agent for notify {
    const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
        name: "notifier",
        help: "",
        file: ::core::file!(),
        line: ::core::line!(),
        topics: &["orders", "returns"],
        key: ::core::option::Option::None,
        tables: &[],
        outputs: &[],
        group: ::core::option::Option::None,
        concurrency: 4usize,
        on_error: ::gretchen::__private::OnError::DeadLetter("failed"),
        shape: ::gretchen::__private::Shape::Event,
        input: <model::Order as ::gretchen::__private::Value>::SCHEMA,
        plain: <model::Order as ::gretchen::__private::Value>::PLAIN,
        start: |task| ::std::boxed::Box::pin(async move {
            let input = task.input::<model::Order>()?;
            ::gretchen::__private::concurrently_events(
                    input,
                    4usize,
                    |item| notify(item),
                )
                .await
        }),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< notify as ::gretchen::__private::Agent > ::DEF)
}
