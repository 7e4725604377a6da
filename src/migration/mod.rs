//! How a machine moves over from another generator of initrds, and back.
//!
//! | module | what it does |
//! |---|---|
//! | [`source`] | the configuration files of a machine |
//! | [`version_order`] | the order in which some generators read files |
//! | [`shell`], [`settings`] | the assignments in a configuration that a shell reads; which of them counts |
//! | [`finding`], [`texts`], [`table`] | what becomes of a setting, and in which words; what is carried over |
//! | [`dracut`], [`dracut_table`], [`install_items`] | dracut's configuration, and what its words mean |
//! | [`initramfs_tools`], [`mkinitcpio`] | that of Debian's and Arch's generators |
//! | [`command_line`], [`crypttab`] | options of the kernel and encrypted volumes, whoever makes the initrd |
//! | [`install_conf`], [`survey`] | kernel-install's configuration; what is there |
//! | [`debian`] | whether hooks of Debian's kernel packages make the initrd |
//! | [`plan`], [`entry`], [`grub_menu`] | the files that are going to be written; the entry that tries them, of either kind |
//! | [`record`] | writes them, remembers what was there, and puts it back |
//!
//! Only `record` writes. Nothing here makes an initrd: that is [`crate::host`].

mod command_line;
mod crypttab;
mod debian;
mod dracut;
mod dracut_table;
pub(crate) mod entry;
mod finding;
mod grub_menu;
mod initramfs_tools;
mod install_conf;
mod install_items;
mod mkinitcpio;
mod plan;
mod record;
mod settings;
mod shell;
mod source;
mod survey;
mod table;
mod texts;
mod version_order;

pub use debian::POSTINST;
pub use finding::{Finding, Outcome};
pub use install_conf::InstallConf;
pub use plan::{CONFIGURATION_NAME, Plan, PlannedFile};
pub use record::{Change, Content, Record, undo};
pub use source::Source;
pub use survey::{Caller, Survey, os_release, systemd_version};
