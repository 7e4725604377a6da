//! Builds Linux initrds from distribution packages, in a container.
//!
//! The folders, the highest first; docs/architecture.md has the table of what each may import.

// The documentation is for those who work on the program: it may point at what is private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod boot;
pub mod build;
pub mod cli;
pub mod compare;
pub mod container;
pub mod definition;
pub mod directory;
pub mod doctor;
pub mod finish;
pub mod format;
pub mod host;
pub mod inspect;
pub mod kernel;
pub mod layer;
pub mod links;
pub mod lock;
pub mod machine;
pub mod manifest;
pub mod microcode;
pub mod migration;
pub mod modules;
pub mod names;
pub mod needs;
pub mod oci;
pub mod packages;
pub mod presets;
pub mod rebuild;
pub mod segment;
pub mod support;
pub mod tree;
pub mod trim;
pub mod uefi;
pub mod uki;
pub mod vconsole;
