//! Archive formats, compression, digests and OpenPGP. Nothing here knows what an initrd is.

pub mod background;
pub mod checksum;
pub mod compress;
pub mod cpio;
pub mod digest;
pub mod openpgp;
