pub(crate) async fn watch(
    mut orders: Stream<Order>,
    mut totals: TableMut<'_, String, OrderTotal>,
    alerts: Output<Alert>,
    mut limits: TableMut<'_, String, i64>,
) {}
#[doc(hidden)]
#[allow(non_camel_case_types)]
pub(crate) struct watch {}
impl ::gretchen::__private::Agent for watch {
    const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
        name: "watch",
        help: "",
        file: ::core::file!(),
        line: ::core::line!(),
        topics: &["orders"],
        key: ::core::option::Option::None,
        tables: &[|| TOTALS.def(), || LIMITS.def()],
        outputs: &[
            ::gretchen::__private::OutputDef {
                topic: "alerts",
                schema: <Alert as ::gretchen::__private::Value>::SCHEMA,
                plain: <Alert as ::gretchen::__private::Value>::PLAIN,
                keeps_key: false,
            },
        ],
        group: ::core::option::Option::None,
        concurrency: 1usize,
        on_error: ::gretchen::__private::OnError::Fail,
        shape: ::gretchen::__private::Shape::Stream,
        input: <Order as ::gretchen::__private::Value>::SCHEMA,
        plain: <Order as ::gretchen::__private::Value>::PLAIN,
        start: |task| ::std::boxed::Box::pin(async move {
            let input = task.input::<Order>()?.into_stream();
            let mut table0 = task.table(&TOTALS)?;
            let output0 = task.output::<Alert>(0usize);
            let mut table1 = task.table(&LIMITS)?;
            ::gretchen::__private::finish_stream(
                watch(input, table0.as_mut(), output0.clone(), table1.as_mut()).await,
            )
        }),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< watch as ::gretchen::__private::Agent > ::DEF)
}
