//! How a connection ends: by its peer or its own application (`ending`, `asked`), with its surroundings
//! (`lifecycle`, `aborted`), or with the server (`drain`).

mod aborted;
mod asked;
mod drain;
mod ending;
mod lifecycle;

use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
