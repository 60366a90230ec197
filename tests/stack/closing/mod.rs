//! How a connection ends: by its peer or its own application (`ending`), with its surroundings
//! (`lifecycle`), or with the server (`drain`).

mod drain;
mod ending;
mod lifecycle;
