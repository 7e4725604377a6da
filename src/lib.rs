//! Builds Linux initrds from distribution packages, in a container.
//!
//! The folders, the highest first. A folder imports only from those below it; docs/architecture.md has the table of what
//! each may import, and `tests/walls.rs` checks it.
//!
//! | folder | contents |
//! |---|---|
//! | [`cli`] | the command line: one file per subcommand |
//! | [`migration`] | moves a machine over from another initrd generator, and back |
//! | [`host`] | a machine's own initrd, made on the machine |
//! | [`build`] | a lock to outputs |
//! | [`lock`] | which packages a build takes: solving, checking, providing, verifying |
//! | [`doctor`] | whether this host and user can build |
//! | [`boot`] | boots a result in QEMU |
//! | [`analysis`] | what is in an initrd, what differs, what a machine needs |
//! | [`container`] | the engine, the builder image, and the steps that run in containers |
//! | [`image`] | trees, modules, segments, initrds, OCI images, UKIs |
//! | [`definition`] | `images/NAME.toml` to a checked [`definition::Definition`] |
//! | [`packages`] | repositories, downloads, rpm files, the store and the cache |
//! | [`names`] | names of packages, units, files and addresses |
//!
//! Below them are two crates that know no domain: [`ocinitrd_support`] (outputs, programs, progress) and
//! [`ocinitrd_format`] (cpio, compression, digests, OpenPGP, PE).

// The documentation is for those who work on the program: it may point at what is private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod analysis;
pub mod boot;
pub(crate) mod build;
pub mod cli;
pub mod container;
pub mod definition;
pub mod doctor;
pub mod host;
pub mod image;
pub mod lock;
pub(crate) mod migration;
pub(crate) mod names;
pub mod packages;
