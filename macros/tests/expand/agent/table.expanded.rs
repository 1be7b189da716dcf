/// Running totals of each customer.
///
/// Not part of the help.
pub async fn total_orders(
    order: Order,
    mut totals: TableMut<'_, String, OrderTotal>,
) -> gretchen::Result<Option<Keyed<OrderTotal>>> {
    Ok(None)
}
#[doc(hidden)]
#[allow(non_camel_case_types)]
pub struct total_orders {}
impl ::gretchen::__private::Agent for total_orders {
    const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
        name: "total_orders",
        help: "Running totals of each customer.",
        file: ::core::file!(),
        line: ::core::line!(),
        topics: &["orders"],
        key: ::core::option::Option::Some(::gretchen::__private::KeyDef {
            field: <Order as ::gretchen::__private::HasField<
                { total_orders::field_customer },
            >>::FIELD,
            start_rekey: ::gretchen::__private::rekey::<
                Order,
                { total_orders::field_customer },
            >,
        }),
        tables: &[|| TOTALS.def()],
        outputs: &[
            ::gretchen::__private::OutputDef {
                topic: "order-totals",
                schema: <OrderTotal as ::gretchen::__private::Value>::SCHEMA,
                plain: <OrderTotal as ::gretchen::__private::Value>::PLAIN,
                keeps_key: false,
            },
        ],
        group: ::core::option::Option::None,
        concurrency: 1usize,
        on_error: ::gretchen::__private::OnError::Retry {
            times: 3u32,
            backoff_ms: 2000u64,
        },
        shape: ::gretchen::__private::Shape::Record,
        input: <Order as ::gretchen::__private::Value>::SCHEMA,
        plain: <Order as ::gretchen::__private::Value>::PLAIN,
        start: |task| ::std::boxed::Box::pin(async move {
            let mut input = task.input::<Order>()?;
            let mut table0 = task.table(&TOTALS)?;
            while let ::core::option::Option::Some(item) = input.next().await {
                input
                    .finish::<
                        gretchen::Result<Option<Keyed<OrderTotal>>>,
                    >(total_orders(item, table0.as_mut()).await)?;
            }
            ::core::result::Result::Ok(())
        }),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< total_orders as ::gretchen::__private::Agent >
    ::DEF)
}
#[allow(non_upper_case_globals)]
impl total_orders {
    const field_customer: u64 = ::gretchen::__private::scalar_field(
        <Order as ::gretchen::__private::Record>::SCHEMA,
        "customer",
        "`customer` is no scalar field of the record",
    );
}
const _: fn(&<Order as ::gretchen::__private::Record>::View<'_>) = |view| {
    let _ = &view.customer;
};
