//! The result, started in QEMU against a root device: a kernel, an initrd and scenarios in, a report for each out.
//!
//! | module | what it does |
//! |---|---|
//! | [`scenario`] | the table: disks, kernel options, what must come of it |
//! | [`partition`], [`fat`], [`esp`] | GUID partition tables; FAT file systems; the EFI system partition |
//! | [`script`] | guests that run a script of ours over the initrd's own programs |
//! | [`cache`] | disks that were made before |
//! | [`command_line`], [`processor`], [`qemu`], [`guest`] | a guest described, started, watched |
//! | [`dialogue`], [`tpm`], [`network`] | what is typed on its console; its TPM; the cable between two of them |
//! | [`kvm`] | whether the processor runs guests by itself |
//! | [`stage`], [`console`] | how far a boot got, read from its console |
//! | [`contents`] | what the kernel unpacked against what the initrd holds |
//! | [`verdict`], [`report`] | what it comes to |
//!
//! The disks are made in a guest that boots the same initrd with a script as its init: nothing is mounted on the host, which
//! needs no program but QEMU. Where the root is on a server, that is such a guest too, and has the disks. Guests write to snapshots, so that a disk is made once for each initrd.

mod cache;
mod command_line;
mod console;
mod contents;
mod dialogue;
mod esp;
mod fat;
mod guest;
pub(crate) mod kvm;
mod network;
pub mod partition;
mod processor;
mod qemu;
mod report;
pub(crate) mod scenario;
mod script;
mod session;
mod stage;
mod tpm;
pub mod uefi;
mod verdict;

pub use qemu::Accelerator;
pub use report::{Report, table};
pub use scenario::Scenario;
pub use session::{BootTarget, Contents, Finding, Options, Session, Task, Unified};
pub use stage::{Milestone, Stage};
pub use verdict::Failure;
