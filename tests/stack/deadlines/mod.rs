//! What waits, and for how long: peers that fall silent or vanish (`network`), peers that read slowly
//! (`slow`), and connections that never rest (`turns`).

mod network;
mod slow;
mod turns;
