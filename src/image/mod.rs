//! An image: from a file system tree to segments, an initrd, and its other forms.

pub mod directory;
pub mod finish;
pub mod kernel;
pub mod layer;
pub mod manifest;
pub mod microcode;
pub mod modules;
pub mod oci;
pub mod presets;
pub mod segment;
pub mod tree;
pub mod trim;
pub mod uki;
pub mod vconsole;
