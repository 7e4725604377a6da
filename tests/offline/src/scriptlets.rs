//! What runs when a package is installed: a package's name in, its scriptlets out.
//!
//! None of Debian's maintainer scripts is used. These do what those of Fedora's packages do. Accounts are made once, when
//! all packages are there: their numbers then do not depend on the order of the installation.

use crate::package::{FileTrigger, Script, Scriptlets};

/// Fedora runs ldconfig before, and the tools of systemd after, what other packages trigger.
const LDCONFIG_PRIORITY: u32 = 2_000_000;
const SYSUSERS_PRIORITY: u32 = 1_000_700;
const TMPFILES_PRIORITY: u32 = 1_000_500;
const HWDB_PRIORITY: u32 = 1_000_000;

const SYSTEMD_POST: &str = "\
systemd-machine-id-setup
if [ \"$1\" -eq 1 ]; then
    systemctl preset-all || :
    systemctl --global preset-all || :
fi
";

/// The scriptlets of the package `name`.
pub fn of(name: &str) -> Scriptlets {
    match name {
        "glibc" => Scriptlets {
            post: Some(Script::shell("ldconfig\n")),
            triggers: vec![trigger(&["/lib", "/usr/lib", "/lib64", "/usr/lib64"], LDCONFIG_PRIORITY, "ldconfig\n")],
            ..Scriptlets::default()
        },
        "systemd" => Scriptlets {
            post: Some(Script::shell(SYSTEMD_POST)),
            triggers: vec![
                trigger(&["/usr/lib/sysusers.d"], SYSUSERS_PRIORITY, "systemd-sysusers\n"),
                trigger(&["/usr/lib/tmpfiles.d"], TMPFILES_PRIORITY, "systemd-tmpfiles --create || :\n"),
                trigger(&["/usr/lib/systemd/catalog"], HWDB_PRIORITY, "journalctl --update-catalog || :\n"),
            ],
            ..Scriptlets::default()
        },
        "systemd-udev" => Scriptlets {
            triggers: vec![trigger(&["/usr/lib/udev/hwdb.d"], HWDB_PRIORITY, "systemd-hwdb update\n")],
            ..Scriptlets::default()
        },
        _ => Scriptlets::default(),
    }
}

/// What `kernel-core` runs after the transaction: programs that nobody wants in an initrd, and that are not there.
pub fn of_kernel(version: &str) -> Scriptlets {
    let script = format!(
        "dracut --force --kver {version} /boot/initramfs-{version}.img || exit $?\n\
         kernel-install add {version} /usr/lib/modules/{version}/vmlinuz || exit $?\n"
    );
    Scriptlets { posttrans: Some(Script::shell(script)), ..Scriptlets::default() }
}

fn trigger(directories: &[&str], priority: u32, script: &str) -> FileTrigger {
    let directories = directories.iter().map(|path| (*path).to_owned()).collect();
    FileTrigger { directories, priority, script: Script::shell(script) }
}
