#[allow(non_upper_case_globals)]
impl order_totals {
    const field_note: u64 = ::gretchen::__private::scalar_field(
        <Order as ::gretchen::__private::Record>::SCHEMA,
        "note",
        "`note` is no scalar field of the record",
    );
    const field_amount: u64 = ::gretchen::__private::scalar_field(
        <Order as ::gretchen::__private::Record>::SCHEMA,
        "amount",
        "`amount` is no scalar field of the record",
    );
}
const _: fn(&<Order as ::gretchen::__private::Record>::View<'_>) = |view| {
    let _ = &view.note;
    let _ = &view.amount;
};
#[allow(non_upper_case_globals)]
impl order_totals {
    const figure_noted: u64 = {
        #[allow(unused_imports)]
        use ::gretchen::__private::DoesNotFit as _;
        if !<::gretchen::__private::Fits<
            ::gretchen::__private::Count,
            <Order as ::gretchen::__private::HasField<
                { order_totals::field_note },
            >>::Type,
        >>::FITS {
            ::core::panic!(
                "`count` cannot be computed over `note`: it takes scalar fields"
            );
        }
        order_totals::field_note
    };
    const figure_revenue: u64 = {
        #[allow(unused_imports)]
        use ::gretchen::__private::DoesNotFit as _;
        if !<::gretchen::__private::Fits<
            ::gretchen::__private::Sum,
            <Order as ::gretchen::__private::HasField<
                { order_totals::field_amount },
            >>::Type,
        >>::FITS {
            ::core::panic!(
                "`sum` cannot be computed over `amount`: it takes int, long, float, double and decimal fields"
            );
        }
        order_totals::field_amount
    };
    const figure_smallest: u64 = {
        #[allow(unused_imports)]
        use ::gretchen::__private::DoesNotFit as _;
        if !<::gretchen::__private::Fits<
            ::gretchen::__private::Min,
            <Order as ::gretchen::__private::HasField<
                { order_totals::field_amount },
            >>::Type,
        >>::FITS {
            ::core::panic!(
                "`min` cannot be computed over `amount`: it takes number, decimal, string, boolean, date, timestamp and uuid fields"
            );
        }
        order_totals::field_amount
    };
}
/// What `ORDER_TOTALS` keeps for each key.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct __OrderTotalsState {
    orders: ::gretchen::__private::Tally,
    noted: <::gretchen::__private::Count as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<{ order_totals::figure_noted }>>::Type,
    >>::Acc,
    revenue: <::gretchen::__private::Sum as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<
            { order_totals::figure_revenue },
        >>::Type,
    >>::Acc,
    smallest: <::gretchen::__private::Min as ::gretchen::__private::Aggregate<
        <Order as ::gretchen::__private::HasField<
            { order_totals::figure_smallest },
        >>::Type,
    >>::Acc,
    late: ::gretchen::__private::Fold<i64>,
}
/// Running totals of each customer.
pub static ORDER_TOTALS: Table<String, OrderTotal, __OrderTotalsState> = ::gretchen::__private::Table::new(
        "order-totals",
    )
    .output("order-totals")
    .help("Running totals of each customer.");
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
        ::core::result::Result::Err(
            ::gretchen::__private::DecodeError::at_field(
                "-",
                bytes.len() - rest.len(),
                ::std::format!(
                    "{} bytes are left over after the last accumulator", rest.len()
                ),
            ),
        )
    }
    fn value(
        &self,
        key: &[u8],
    ) -> ::core::result::Result<OrderTotal, ::gretchen::__private::EncodeError> {
        let key = <<<Order as ::gretchen::__private::HasField<
            { order_totals::field_customer },
        >>::Type as ::gretchen::__private::KeyField>::Key as ::gretchen::__private::Key>::decode_key(
                key,
            )
            .map_err(|error| ::gretchen::__private::encode_failed("customer", &error))?;
        ::core::result::Result::Ok(OrderTotal {
            customer: ::core::convert::Into::into(key),
            orders: ::gretchen::__private::Finish::finish(&self.orders)
                .map_err(|error| ::gretchen::__private::encode_failed(
                    "orders",
                    &error,
                ))?,
            noted: ::gretchen::__private::Finish::finish(&self.noted)
                .map_err(|error| ::gretchen::__private::encode_failed("noted", &error))?,
            revenue: ::gretchen::__private::Finish::finish(&self.revenue)
                .map_err(|error| ::gretchen::__private::encode_failed(
                    "revenue",
                    &error,
                ))?,
            smallest: ::gretchen::__private::Finish::finish(&self.smallest)
                .map_err(|error| ::gretchen::__private::encode_failed(
                    "smallest",
                    &error,
                ))?,
            late: ::gretchen::__private::Finish::finish(&self.late)
                .map_err(|error| ::gretchen::__private::encode_failed("late", &error))?,
        })
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
                        { order_totals::figure_noted },
                    >>::Type,
                >>::Acc as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("revenue: sum(amount) as ");
        layout
            .push_str(
                <<::gretchen::__private::Sum as ::gretchen::__private::Aggregate<
                    <Order as ::gretchen::__private::HasField<
                        { order_totals::figure_revenue },
                    >>::Type,
                >>::Acc as ::gretchen::__private::Accumulator>::LAYOUT,
            );
        layout.push('\n');
        layout.push_str("smallest: min(amount) as ");
        layout
            .push_str(
                <<::gretchen::__private::Min as ::gretchen::__private::Aggregate<
                    <Order as ::gretchen::__private::HasField<
                        { order_totals::figure_smallest },
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
const _: fn(
    ::core::marker::PhantomData<String>,
) -> ::core::marker::PhantomData<
    <<Order as ::gretchen::__private::HasField<
        { order_totals::field_customer },
    >>::Type as ::gretchen::__private::KeyField>::Key,
> = |key| key;
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
            { order_totals::field_customer },
        >>::Type as ::gretchen::__private::KeyField>::key_bytes(
            <Order as ::gretchen::__private::HasField<
                { order_totals::field_customer },
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
                { order_totals::figure_revenue },
            >>::Type,
        >>::fold(
            &mut next_revenue,
            <Order as ::gretchen::__private::HasField<
                { order_totals::figure_revenue },
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
                { order_totals::figure_noted },
            >>::Type,
        >>::fold(
            &mut state.noted,
            <Order as ::gretchen::__private::HasField<
                { order_totals::figure_noted },
            >>::get(view),
        )?;
        <::gretchen::__private::Min as ::gretchen::__private::Aggregate<
            <Order as ::gretchen::__private::HasField<
                { order_totals::figure_smallest },
            >>::Type,
        >>::fold(
            &mut state.smallest,
            <Order as ::gretchen::__private::HasField<
                { order_totals::figure_smallest },
            >>::get(view),
        )?;
        state.revenue = next_revenue;
        state.late = next_late;
        ::core::result::Result::Ok(())
    }
}
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
            field: <Order as ::gretchen::__private::HasField<
                { order_totals::field_customer },
            >>::FIELD,
            start_rekey: ::gretchen::__private::rekey::<
                Order,
                { order_totals::field_customer },
            >,
        }),
        tables: &[|| ORDER_TOTALS.def()],
        outputs: &[],
        group: ::core::option::Option::None,
        concurrency: 1usize,
        on_error: ::gretchen::__private::OnError::Skip,
        shape: ::gretchen::__private::Shape::Aggregate,
        input: <Order as ::gretchen::__private::Value>::SCHEMA,
        plain: <Order as ::gretchen::__private::Value>::PLAIN,
        start: |task| ::gretchen::__private::aggregate::<
            order_totals,
        >(task, &ORDER_TOTALS),
    };
}
::gretchen::__private::inventory::submit! {
    ::gretchen::__private::Submitted(< order_totals as ::gretchen::__private::Agent >
    ::DEF)
}
#[allow(non_upper_case_globals)]
impl order_totals {
    const field_customer: u64 = ::gretchen::__private::scalar_field(
        <Order as ::gretchen::__private::Record>::SCHEMA,
        "customer",
        "`customer` is no scalar field of the record",
    );
}
const _: fn(&<Order as ::gretchen::__private::Record>::View<'_>) = |view| {
    let _ = &view.customer;
};
