//! WebSockets for tower.

mod config;
mod error;
mod message;
mod protocol;
