//! The `ocinitrd` program: parse, log, dispatch, print the error chain.

fn main() {}
