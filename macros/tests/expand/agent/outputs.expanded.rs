async fn add_up(
    data: Event<i32>,
    mut echo: Output<i32>,
    mut sum: Output<i64>,
) -> gretchen::Result<()> {
    Ok(())
}
#[doc(hidden)]
#[allow(non_camel_case_types)]
struct add_up {}
impl ::gretchen::__private::Agent for add_up {
    const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
        name: "add_up",
        help: "",
        file: ::core::file!(),
        line: ::core::line!(),
        topics: &["data"],
        key: ::core::option::Option::None,
        tables: &[],
        outputs: &[
            ::gretchen::__private::OutputDef {
                topic: "echo",
                schema: <i32 as ::gretchen::__private::Value>::SCHEMA,
                plain: <i32 as ::gretchen::__private::Value>::PLAIN,
                keeps_key: false,
            },
            ::gretchen::__private::OutputDef {
                topic: "sum",
                schema: <i64 as ::gretchen::__private::Value>::SCHEMA,
                plain: <i64 as ::gretchen::__private::Value>::PLAIN,
                keeps_key: false,
            },
        ],
        group: ::core::option::Option::Some("EosTest"),
        concurrency: 1usize,
        on_error: ::gretchen::__private::OnError::Fail,
        shape: ::gretchen::__private::Shape::Event,
        input: <i32 as ::gretchen::__private::Value>::SCHEMA,
        plain: <i32 as ::gretchen::__private::Value>::PLAIN,
        start: |task| ::std::boxed::Box::pin(async move {
            let mut input = task.input::<i32>()?;
            let output0 = task.output::<i32>(0usize);
            let output1 = task.output::<i64>(1usize);
            while let ::core::option::Option::Some(item) = input.next_event().await {
                input
                    .finish::<
                        gretchen::Result<()>,
                    >(add_up(item, output0.clone(), output1.clone()).await)?;
            }
            ::core::result::Result::Ok(())
        }),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< add_up as ::gretchen::__private::Agent > ::DEF)
}
