//! What holds for the repository as a whole: the table of faults has its tests, the modules of `src`
//! know only what they may, and no file of tests is left out of the runs.

#![allow(clippy::unwrap_used)]

mod faults;
mod layout;
mod links;
mod purity;
