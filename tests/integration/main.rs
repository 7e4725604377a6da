//! DROP: the lead's main.rs.
#![allow(clippy::unwrap_used)]
mod convert;
#[allow(dead_code)]
mod fixture;
mod oci;
