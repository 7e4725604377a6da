//! The integration tests.

#![allow(clippy::unwrap_used)]

mod doctor;
mod engine;
mod fixture;
