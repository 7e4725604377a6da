//! The lock: exactly which packages a build takes, how that is found out, and how they are provided.

pub mod context;
pub mod ensure;
pub mod file;
pub mod provision;
pub mod resolve;
pub mod signatures;
pub mod transfer;
