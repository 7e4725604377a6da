//! One file a subcommand; each reads as its pipeline.

pub mod convert;
