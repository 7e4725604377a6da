//! The lock: exactly which packages a build takes, how that is found out, and how they are provided.

pub(crate) mod context;
pub(crate) mod ensure;
pub mod file;
pub(crate) mod provision;
pub(crate) mod resolve;
pub(crate) mod signatures;
pub(crate) mod transfer;
