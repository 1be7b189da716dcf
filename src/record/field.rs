//! Fields that declared aggregations read and fill: found by name at compile time.

use std::fmt;

use super::Record;

/// The type of a scalar field: what owns it and what a view of a record lends.
pub trait FieldType: Clone + fmt::Debug + Send + 'static {
    /// The field as a record's view holds it.
    type View<'a>: Clone;

    /// Copies what the view borrows.
    fn own(view: Self::View<'_>) -> Self;
}

macro_rules! copied_field {
    ($($type:ty),* $(,)?) => {$(
        impl FieldType for $type {
            type View<'a> = Self;

            #[inline]
            fn own(view: Self) -> Self {
                view
            }
        }
    )*};
}

copied_field!(
    super::Duration,
    bool,
    i32,
    i64,
    f32,
    f64,
    rust_decimal::Decimal,
    jiff::civil::Date,
    jiff::Timestamp,
    uuid::Uuid
);

impl FieldType for String {
    type View<'a> = &'a str;

    fn own(view: &str) -> Self {
        view.to_owned()
    }
}

impl FieldType for bytes::Bytes {
    type View<'a> = &'a [u8];

    fn own(view: &[u8]) -> Self {
        Self::copy_from_slice(view)
    }
}

impl<T: FieldType> FieldType for Option<T> {
    type View<'a> = Option<T::View<'a>>;

    #[inline]
    fn own(view: Option<T::View<'_>>) -> Self {
        view.map(T::own)
    }
}

/// The record has a scalar field whose name in Rust hashes to `NAME` (see [`field_id`]); `records!` implements it.
#[diagnostic::on_unimplemented(message = "`{Self}` has no scalar field of this name", label = "no such field")]
pub trait HasField<const NAME: u64>: Record {
    /// The field's type.
    type Type: FieldType;

    /// The field's name in the schema.
    const FIELD: &'static str;

    /// The field of a view.
    fn get<'a>(view: &Self::View<'a>) -> <Self::Type as FieldType>::View<'a>;

    /// Sets the field.
    fn set(&mut self, value: Self::Type);
}

/// The number that stands for a field's name in [`HasField`]: FNV-1a of its UTF-8 bytes.
pub const fn field_id(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}
