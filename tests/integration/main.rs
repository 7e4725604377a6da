//! The integration tests: one binary, a file a subject. They run the real program, podman, dnf and QEMU; what they need
//! and do not find makes them fail. `make test` provides it.

#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod modules;
