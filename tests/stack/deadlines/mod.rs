//! What waits, and for how long: peers that fall silent or vanish (`network`), peers that read slowly
//! (`slow`) or never ask for anything (`silent`), and connections that never rest (`turns`).

#[path = "../../../examples/first_request/mod.rs"]
mod first_request;
mod network;
mod silent;
mod slow;
mod turns;
