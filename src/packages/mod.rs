//! Packages and how they get here: repositories, downloads, rpm files, and the store that keeps them.

pub(crate) mod cache;
pub mod download;
pub mod fetch;
pub(crate) mod identity;
pub mod repository;
pub mod rpm_file;
pub mod store;
