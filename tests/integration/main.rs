//! The integration tests: one binary, a file a subject. They run the real program, podman, dnf and QEMU; what they need
//! and do not find makes them fail. `make test` provides it.
#![allow(clippy::unwrap_used)]

mod as_root;
mod boot;
mod build;
mod check;
mod coexistence;
mod convert;
mod definition;
mod diff;
mod distribution;
mod doctor;
mod engine;
mod fixture;
mod forged;
mod format;
mod forms;
mod handmade;
mod host_machine;
mod http_server;
mod images;
mod in_place;
mod inspect;
mod integrity;
mod interrupted;
mod kernel;
mod kernel_install;
mod kernel_install_base;
mod kernel_install_failures;
mod kernel_install_uki;
mod local_users;
mod lock;
mod machine;
mod matrix;
mod modules;
mod oci;
mod packages;
mod parents;
mod registry;
mod repository;
mod signers;
mod store;
mod streams;
mod uki;
mod uki_tools;
mod verify;
