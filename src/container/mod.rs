//! Containers: the engine, its builder image, and the steps that run in them.

pub(crate) mod builder_image;
pub mod engine;
pub(crate) mod registry;
pub(crate) mod steps;
