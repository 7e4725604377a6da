//! To be written.

pub mod doctor;
pub mod surroundings;
