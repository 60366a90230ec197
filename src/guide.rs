//! Pages beside the reference: what to know before a deployment, and how to come here from
//! elsewhere.

#[doc = include_str!("guide/axum.md")]
pub mod axum {}

#[doc = include_str!("../SECURITY.md")]
pub mod security {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}
