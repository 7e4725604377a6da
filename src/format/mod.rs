//! Archive formats, compression, digests, OpenPGP, PE and RSA keys. Nothing here knows what an initrd is.

pub mod background;
pub mod checksum;
pub mod compress;
pub mod cpio;
pub mod digest;
pub mod openpgp;
pub mod pe;
pub mod rsa;
