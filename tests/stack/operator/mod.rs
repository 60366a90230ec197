//! What those who run a server see of its connections, and do to them.

mod connections;
mod page;
