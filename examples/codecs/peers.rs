//! The records as the peers' serde types. They take dates and decimals as the integer and the bytes underneath: that is
//! less work than ours do, and they know no exact decimal. [`MadeOrder`] makes the same of them as ours.

use jiff::ToSpan;
use rust_decimal::Decimal;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Bytes, which serde would take for a list of numbers.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "Sale")]
pub(crate) struct OwnedSale {
    pub(crate) sale_id: i64,
    pub(crate) customer: String,
    pub(crate) price: f64,
    pub(crate) quantity: i32,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
pub(crate) struct BorrowedSale<'a> {
    pub(crate) sale_id: i64,
    pub(crate) customer: &'a str,
    pub(crate) price: f64,
    pub(crate) quantity: i32,
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "Order")]
pub(crate) struct OwnedOrder {
    pub(crate) order_id: i64,
    pub(crate) customer: String,
    pub(crate) ordered_on: i32,
    pub(crate) quantity: i32,
    pub(crate) amount: Bytes,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
pub(crate) struct BorrowedOrder<'a> {
    pub(crate) order_id: i64,
    pub(crate) customer: &'a str,
    pub(crate) ordered_on: i32,
    pub(crate) quantity: i32,
    pub(crate) amount: &'a [u8],
}

/// The order with a date and a decimal, made while it is read.
#[derive(Deserialize)]
#[serde(rename = "Order")]
#[expect(dead_code, reason = "read to be measured")]
pub(crate) struct MadeOrder {
    pub(crate) order_id: i64,
    pub(crate) customer: String,
    #[serde(deserialize_with = "date")]
    pub(crate) ordered_on: jiff::civil::Date,
    pub(crate) quantity: i32,
    #[serde(deserialize_with = "amount")]
    pub(crate) amount: Decimal,
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::civil::Date, D::Error> {
    let days = i32::deserialize(deserializer)?;
    jiff::civil::date(1970, 1, 1).checked_add(days.days()).map_err(D::Error::custom)
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let bytes = <&[u8]>::deserialize(deserializer)?;
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let start = if negative { -1_i128 } else { 0 };
    let unscaled = bytes.iter().fold(start, |value, byte| value << 8 | i128::from(*byte));
    Decimal::try_from_i128_with_scale(unscaled, 2).map_err(D::Error::custom)
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "Status", rename_all = "UPPERCASE")]
pub(crate) enum WideStatus {
    Active,
    Paused,
    Closed,
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "Wide")]
pub(crate) struct OwnedWide {
    pub(crate) id: i64,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) middle_name: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) email: String,
    pub(crate) phone: Option<String>,
    pub(crate) street: String,
    pub(crate) street2: Option<String>,
    pub(crate) city: String,
    pub(crate) region: Option<String>,
    pub(crate) postal_code: String,
    pub(crate) country: String,
    pub(crate) status: WideStatus,
    pub(crate) created_at: i64,
    pub(crate) updated_at: Option<i64>,
    pub(crate) last_seen_at: Option<i64>,
    pub(crate) orders: i32,
    pub(crate) returns: i32,
    pub(crate) revenue: f64,
    pub(crate) discount: Option<f64>,
    pub(crate) credit: Option<f64>,
    pub(crate) score: f32,
    pub(crate) newsletter: bool,
    pub(crate) verified: bool,
    pub(crate) referrer: Option<i64>,
    pub(crate) campaign: Option<String>,
    pub(crate) language: String,
    pub(crate) tags: Vec<String>,
    pub(crate) note: Option<String>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
pub(crate) struct BorrowedWide<'a> {
    pub(crate) id: i64,
    pub(crate) first_name: &'a str,
    pub(crate) last_name: &'a str,
    #[serde(borrow)]
    pub(crate) middle_name: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) title: Option<&'a str>,
    pub(crate) email: &'a str,
    #[serde(borrow)]
    pub(crate) phone: Option<&'a str>,
    pub(crate) street: &'a str,
    #[serde(borrow)]
    pub(crate) street2: Option<&'a str>,
    pub(crate) city: &'a str,
    #[serde(borrow)]
    pub(crate) region: Option<&'a str>,
    pub(crate) postal_code: &'a str,
    pub(crate) country: &'a str,
    pub(crate) status: WideStatus,
    pub(crate) created_at: i64,
    pub(crate) updated_at: Option<i64>,
    pub(crate) last_seen_at: Option<i64>,
    pub(crate) orders: i32,
    pub(crate) returns: i32,
    pub(crate) revenue: f64,
    pub(crate) discount: Option<f64>,
    pub(crate) credit: Option<f64>,
    pub(crate) score: f32,
    pub(crate) newsletter: bool,
    pub(crate) verified: bool,
    pub(crate) referrer: Option<i64>,
    #[serde(borrow)]
    pub(crate) campaign: Option<&'a str>,
    pub(crate) language: &'a str,
    #[serde(borrow)]
    pub(crate) tags: Vec<&'a str>,
    #[serde(borrow)]
    pub(crate) note: Option<&'a str>,
}
