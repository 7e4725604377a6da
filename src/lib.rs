//! Builds Linux initrds from distribution packages, in a container.
//!
//! The folders, the highest first; docs/architecture.md has the table of what each may import.

// The documentation is for those who work on the program: it may point at what is private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod analysis;
pub mod boot;
pub mod build;
pub mod cli;
pub mod container;
pub mod definition;
pub mod doctor;
pub mod host;
pub mod image;
pub mod lock;
pub mod migration;
pub mod names;
pub mod packages;
