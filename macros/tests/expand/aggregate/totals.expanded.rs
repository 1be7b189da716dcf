/// Running totals of each customer.
pub static ORDER_TOTALS: Table<String, OrderTotal, __OrderTotalsState> = ::gretchen::__private::Table::new(
        "order-totals",
    )
    .output("order-totals")
    .help("Running totals of each customer.");
/// What `ORDER_TOTALS` keeps for each key.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct __OrderTotalsState {
    orders: ::gretchen::__private::Tally,
    noted: <::gretchen::__private::Count as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("note") },
        >>::Type,
    >>::Acc,
    revenue: <::gretchen::__private::Sum as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("amount") },
        >>::Type,
    >>::Acc,
    smallest: <::gretchen::__private::Min as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("amount") },
        >>::Type,
    >>::Acc,
    late: ::gretchen::__private::Fold<i64>,
}
impl ::gretchen::__private::TableState<String, OrderTotal> for __OrderTotalsState {
    fn encode_state(
        &self,
        out: &mut ::std::vec::Vec<u8>,
    ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
        ::gretchen::__private::Accumulator::encode(&self.orders, out);
        ::gretchen::__private::Accumulator::encode(&self.noted, out);
        ::gretchen::__private::Accumulator::encode(&self.revenue, out);
        ::gretchen::__private::Accumulator::encode(&self.smallest, out);
        ::gretchen::__private::Accumulator::encode(&self.late, out);
        ::core::result::Result::Ok(())
    }
    fn decode_state(
        bytes: &[u8],
    ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
        let mut rest = bytes;
        let state = Self {
            orders: ::gretchen::__private::Accumulator::decode(&mut rest)?,
            noted: ::gretchen::__private::Accumulator::decode(&mut rest)?,
            revenue: ::gretchen::__private::Accumulator::decode(&mut rest)?,
            smallest: ::gretchen::__private::Accumulator::decode(&mut rest)?,
            late: ::gretchen::__private::Accumulator::decode(&mut rest)?,
        };
        if rest.is_empty() {
            return ::core::result::Result::Ok(state);
        }
        ::core::result::Result::Err(::gretchen::__private::DecodeError {
            field: ::std::string::String::from("-"),
            position: bytes.len() - rest.len(),
            reason: ::std::format!(
                "{} bytes are left over after the last accumulator", rest.len()
            ),
        })
    }
    fn value(
        &self,
        key: &[u8],
    ) -> ::core::result::Result<OrderTotal, ::gretchen::__private::EncodeError> {
        let key = <String as ::gretchen::__private::Key>::decode_key(key)
            .map_err(|error| ::gretchen::__private::encode_failed("customer", &error))?;
        let mut value = <OrderTotal as ::core::default::Default>::default();
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("customer") },
        >>::set(&mut value, ::core::convert::Into::into(key));
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("orders") },
        >>::set(
            &mut value,
            ::gretchen::__private::Finish::finish(&self.orders)
                .map_err(|error| ::gretchen::__private::encode_failed("orders", &error))?,
        );
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("noted") },
        >>::set(
            &mut value,
            ::gretchen::__private::Finish::finish(&self.noted)
                .map_err(|error| ::gretchen::__private::encode_failed("noted", &error))?,
        );
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("revenue") },
        >>::set(
            &mut value,
            ::gretchen::__private::Finish::finish(&self.revenue)
                .map_err(|error| ::gretchen::__private::encode_failed(
                    "revenue",
                    &error,
                ))?,
        );
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("smallest") },
        >>::set(
            &mut value,
            ::gretchen::__private::Finish::finish(&self.smallest)
                .map_err(|error| ::gretchen::__private::encode_failed(
                    "smallest",
                    &error,
                ))?,
        );
        <OrderTotal as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("late") },
        >>::set(
            &mut value,
            ::gretchen::__private::Finish::finish(&self.late)
                .map_err(|error| ::gretchen::__private::encode_failed("late", &error))?,
        );
        ::core::result::Result::Ok(value)
    }
    fn layout() -> ::std::string::String {
        let mut layout = ::std::string::String::new();
        layout.push_str("orders: count() as ");
        layout
            .push_str(
                <::gretchen::__private::Tally as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("noted: count(note) as ");
        layout
            .push_str(
                <<::gretchen::__private::Count as ::gretchen::__private::Aggregate<
                    <Order as ::gretchen::__private::HasField<
                        { ::gretchen::__private::field_id("note") },
                    >>::Type,
                >>::Acc as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("revenue: sum(amount) as ");
        layout
            .push_str(
                <<::gretchen::__private::Sum as ::gretchen::__private::Aggregate<
                    <Order as ::gretchen::__private::HasField<
                        { ::gretchen::__private::field_id("amount") },
                    >>::Type,
                >>::Acc as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("smallest: min(amount) as ");
        layout
            .push_str(
                <<::gretchen::__private::Min as ::gretchen::__private::Aggregate<
                    <Order as ::gretchen::__private::HasField<
                        { ::gretchen::__private::field_id("amount") },
                    >>::Type,
                >>::Acc as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("late: fold as ");
        layout
            .push_str(
                <::gretchen::__private::Fold<
                    i64,
                > as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout
    }
}
impl ::gretchen::__private::Aggregation for order_totals {
    type Record = Order;
    type Key = String;
    type Value = OrderTotal;
    type State = __OrderTotalsState;
    #[inline]
    fn key<'v>(
        view: &'v <Order as ::gretchen::__private::Record>::View<'_>,
        scratch: &'v mut ::std::vec::Vec<u8>,
    ) -> ::core::option::Option<&'v [u8]> {
        <<Order as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("customer") },
        >>::Type as ::gretchen::__private::KeyField>::key_bytes(
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("customer") },
            >>::get(view),
            scratch,
        )
    }
    #[inline]
    fn fold(
        state: &mut __OrderTotalsState,
        view: &<Order as ::gretchen::__private::Record>::View<'_>,
    ) -> ::core::result::Result<(), ::gretchen::__private::AggregateError> {
        let mut next_revenue = ::core::clone::Clone::clone(&state.revenue);
        <::gretchen::__private::Sum as ::gretchen::__private::Aggregate<
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("amount") },
            >>::Type,
        >>::fold(
            &mut next_revenue,
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("amount") },
            >>::get(view),
        )?;
        let mut next_late = ::core::clone::Clone::clone(&state.late);
        {
            let fold: fn(
                &mut i64,
                &<Order as ::gretchen::__private::Record>::View<'_>,
            ) -> ::core::result::Result<(), ::gretchen::__private::AggregateError> = |
                state: &mut i64,
                order: &OrderView<'_>|
            {
                *state += i64::from(order.late);
                Ok(())
            };
            let mut next = ::core::clone::Clone::clone(next_late.get());
            fold(&mut next, view)?;
            next_late.set(next);
        }
        ::gretchen::__private::CountRecords::fold(&mut state.orders);
        <::gretchen::__private::Count as ::gretchen::__private::Aggregate<
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("note") },
            >>::Type,
        >>::fold(
            &mut state.noted,
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("note") },
            >>::get(view),
        )?;
        <::gretchen::__private::Min as ::gretchen::__private::Aggregate<
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("amount") },
            >>::Type,
        >>::fold(
            &mut state.smallest,
            <Order as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("amount") },
            >>::get(view),
        )?;
        state.revenue = next_revenue;
        state.late = next_late;
        ::core::result::Result::Ok(())
    }
}
const _: fn(&<Order as ::gretchen::__private::Record>::View<'_>) = |view| {
    let _ = &view.note;
    let _ = &view.amount;
};
const _: fn(OrderTotal) = |value| {
    let OrderTotal {
        customer: _,
        orders: _,
        noted: _,
        revenue: _,
        smallest: _,
        late: _,
    } = value;
};
#[doc(hidden)]
#[allow(non_camel_case_types)]
pub struct order_totals {}
impl ::gretchen::__private::Agent for order_totals {
    const DEF: &'static ::gretchen::__private::AgentDef = &::gretchen::__private::AgentDef {
        name: "order_totals",
        help: "Running totals of each customer.",
        file: ::core::file!(),
        line: ::core::line!(),
        topics: &["orders"],
        key: ::core::option::Option::Some(::gretchen::__private::KeyDef {
            field: "customer",
            start_rekey: ::gretchen::__private::rekey::<
                Order,
                { ::gretchen::__private::field_id("customer") },
            >,
        }),
        tables: &[|| ORDER_TOTALS.def()],
        output: ::core::option::Option::None,
        concurrency: 1usize,
        on_error: ::gretchen::__private::OnError::Skip,
        shape: ::gretchen::__private::Shape::Aggregate,
        input: <Order as ::gretchen::__private::Value>::SCHEMA,
        start: |task| ::gretchen::__private::aggregate::<
            order_totals,
        >(task, &ORDER_TOTALS),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< order_totals as ::gretchen::__private::Agent >
    ::DEF)
}
const _: fn(&<Order as ::gretchen::__private::Record>::View<'_>) = |view| {
    let _ = &view.customer;
};
