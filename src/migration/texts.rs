//! What is said of the same thing in several generators' words.

/// Modules are for this machine.
pub const SCOPE_HOST: &str = "modules are for this machine unless scope says otherwise";
/// Modules are for any.
pub const SCOPE_GENERIC: &str = "scope = \"generic\": modules for any machine, as the base was built for";
/// Added to what is said of modules that the old generator loads first.
pub const LOADED_FIRST: &str =
    "; to load them before udev asks for them, say rd.modules_load=NAME on the kernel's command line";
/// Compression.
pub const COMPRESSION: &str = "the base is compressed as it was built; modules stay as the kernel's package has them, unless compression says otherwise";
/// Keymaps and fonts.
pub const CONSOLE: &str =
    "/etc/vconsole.conf says it, and goes in; it takes a base that was built with --profile vconsole";
/// The network.
pub const NETWORK: &str = "it takes a base that was built with --profile network, whose network is systemd-networkd's; ip= on the kernel's command line says the addresses";
/// A root on NFS.
pub const NFS_ROOT: &str =
    "say root=SERVER:PATH rootfstype=nfs on the kernel's command line, in a base with the profile nfs";
/// plymouth.
pub const PLYMOUTH: &str =
    "it takes a base that was built with --profile plymouth; without it passphrases are asked for on the console";
/// The picture that plymouth shows.
pub const PICTURE: &str = "the picture is plymouth's, in a base that was built with --profile plymouth";
/// Microcode.
pub const MICROCODE: &str = "the updates of this machine's processors are in front of the initrd";
/// Unified kernel images.
pub const UNIFIED: &str =
    "say layout=uki and uki_generator=ocinitrd in install.conf(5), and the options in /etc/kernel/cmdline";
/// Kernels in FIPS mode.
pub const FIPS: &str = "the check of a kernel in FIPS mode is not in the base: leave such a machine with dracut";
/// Live images.
pub const LIVE: &str = "starting from a live image is not supported";
/// Waiting for devices.
pub const EVENTS: &str = "systemd waits for devices by their events";
/// What is in each base.
pub const IN_EVERY_BASE: &str = "part of every base";
/// mdadm's configuration and the like.
pub const WHERE_IT_IS: &str = "it goes in where it is there";
/// LVM's configuration.
pub const WHERE_LVM_IS: &str = "it goes in where the initrd has to find a volume of LVM";
