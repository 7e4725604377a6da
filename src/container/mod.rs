//! Containers: the engine, its builder image, and the steps that run in them.

pub mod builder_image;
pub mod engine;
pub mod registry;
pub mod steps;
