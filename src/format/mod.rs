//! Archive formats, compression and digests. Nothing here knows what an initrd is.

pub mod background;
pub mod checksum;
pub mod compress;
pub mod cpio;
pub mod digest;
