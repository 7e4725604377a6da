//! An image: from a file system tree to segments, an initrd, and its other forms.

pub mod directory;
pub(crate) mod finish;
pub mod kernel;
pub mod layer;
pub mod manifest;
pub(crate) mod microcode;
pub mod modules;
pub mod oci;
pub(crate) mod presets;
pub mod segment;
pub mod tree;
pub(crate) mod trim;
pub mod uki;
pub(crate) mod vconsole;
