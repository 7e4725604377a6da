//! The configuration of kmod: what depmod(8) and modprobe(8) read of `depmod.d` and `modprobe.d`.
//!
//! | module | what it does |
//! |---|---|
//! | [`files`] | directories of configuration to the files that count, and their lines |
//! | [`depmod`] | which of several modules of one name counts (depmod.d(5)) |
//! | [`modprobe`] | what is loaded with a module, and what is not loaded (modprobe.d(5)) |
//!
//! In: a tree with the directories, of a machine or of packages. Lines that kmod passes over are passed over here too and are
//! reported: whoever wrote them meant something.

pub(super) mod depmod;
pub(super) mod files;
pub(super) mod modprobe;
