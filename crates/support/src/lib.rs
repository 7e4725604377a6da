//! What every folder may use and what knows no domain: outputs, programs, progress, files that others may have put there.

pub mod exhausted;
pub mod links;
pub mod output;
pub mod own_directory;
pub mod parallel;
pub mod private_group;
pub mod process;
pub mod progress;
pub mod regular_file;
