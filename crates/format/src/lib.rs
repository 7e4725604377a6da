//! Archive formats, compression, digests, OpenPGP, PE, RSA keys, times, texts that boot loaders, the
//! kernel and systemd read, and text from outside. Nothing here knows what an initrd is.

pub mod architecture;
pub mod background;
pub mod boot_entry;
pub mod checksum;
pub mod command_line;
pub mod compress;
pub mod cpio;
pub mod digest;
pub mod json;
pub mod openpgp;
pub mod os_release;
pub mod pe;
pub mod rsa;
pub mod tally;
pub mod text;
pub mod time;
