//! The integration tests.
#![allow(clippy::unwrap_used)]

mod format;
mod inspect;
