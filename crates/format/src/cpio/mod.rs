//! cpio archives in the "new ASCII" format (newc): what the Linux kernel unpacks as an initramfs.
//!
//! An archive is a sequence of entries, each a header of 110 ASCII bytes, a name that ends in NUL, and data; name and data
//! are padded to 4 bytes. It ends with an entry named `TRAILER!!!`. Several archives may follow each other, with any number
//! of zero bytes between them. The format and the kernel's reading of it: Linux,
//! [initramfs buffer format](https://docs.kernel.org/driver-api/early-userspace/buffer-format.html).
//!
//! [`Writer`] makes an archive, [`Reader`] reads one or several; both stream.

mod reader;
mod writer;

pub use reader::{Entry, Next, Reader};
pub use writer::{Header, Padding, Writer, size_field};

/// The longest path an entry can have, in bytes: the kernel skips an entry whose name, with its NUL, is over 4,096.
pub const PATH_MAX_BYTES: usize = 4095;

/// The bits of `st_mode` that hold the file type.
pub const TYPE_MASK: u32 = 0o170_000;
/// File type bits of a named pipe.
pub const TYPE_FIFO: u32 = 0o010_000;
/// File type bits of a character device.
pub const TYPE_CHARACTER_DEVICE: u32 = 0o020_000;
/// File type bits of a directory.
pub const TYPE_DIRECTORY: u32 = 0o040_000;
/// File type bits of a block device.
pub const TYPE_BLOCK_DEVICE: u32 = 0o060_000;
/// File type bits of a regular file.
pub const TYPE_FILE: u32 = 0o100_000;
/// File type bits of a symbolic link.
pub const TYPE_SYMLINK: u32 = 0o120_000;
/// File type bits of a socket.
pub const TYPE_SOCKET: u32 = 0o140_000;

const HEADER_BYTES: usize = 110;
const ALIGNMENT_BYTES: u64 = 4;
const TRAILER: &[u8] = b"TRAILER!!!";

/// How many bytes are missing from `position` to the next multiple of `alignment`.
fn missing_to(alignment: u64, position: u64) -> usize {
    usize::try_from(position.next_multiple_of(alignment) - position).expect("less than the alignment")
}

#[cfg(test)]
mod tests;
