//! Pages beside the reference: what to know before a deployment, how other layers behave beside this
//! one, and how to come here from elsewhere.

#[doc = include_str!("guide/axum.md")]
pub mod axum {}

#[doc = include_str!("../SECURITY.md")]
pub mod security {}

#[doc = include_str!("guide/operating.md")]
pub mod operating {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}

#[doc = include_str!("guide/layers.md")]
pub mod layers {}

#[doc = include_str!("guide/topics.md")]
pub mod topics {}
