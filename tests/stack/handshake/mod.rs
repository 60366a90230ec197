//! From a request to the 101: who answers it (`answers`), how it may be written (`requests`), what it
//! may offer (`offers`), and which responses open a connection (`guard`).

mod answers;
mod guard;
mod offers;
mod requests;
