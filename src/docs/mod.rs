//! How gretchen works and what it promises, page by page.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("delivery.md")]
pub mod delivery {}

#[doc = include_str!("records.md")]
pub mod records {}

#[doc = include_str!("speed.md")]
pub mod speed {}
