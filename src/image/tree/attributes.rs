//! Which extended attributes belong to a tree.
//!
//! A package can give a file one attribute: its capabilities. All others come from the machine that the file lies on, and
//! differ from one machine or run to the next: labels of SELinux, Smack and AppArmor, measurements of IMA and EVM, an
//! overlay's bookkeeping in `trusted.overlay.*` and `user.overlay.*`, what a file system or a backup program keeps there.
//! A list of what stays, not of what goes, holds for those that nobody has thought of as well.

/// File capabilities, capabilities(7).
pub const CAPABILITIES: &[u8] = b"security.capability";

/// Whether an extended attribute of this name is a package's, and not the machine's.
pub fn is_of_a_package(name: &[u8]) -> bool {
    name == CAPABILITIES
}
