//! Limits: those that options set (`configured`), and what happens when a resource runs out
//! (`resources`).

mod configured;
mod resources;
