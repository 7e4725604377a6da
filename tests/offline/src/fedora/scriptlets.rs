//! What Fedora's packages run when they are installed: much of it in rpm's own Lua, some by file triggers.
//!
//! These do what those of Fedora's spec files do to the tree, in other words.

use crate::package::{FileTrigger, Script, Scriptlets};

/// The tree is empty when this runs: it makes what the first packages are unpacked into.
const FILESYSTEM_PRETRANS: &str = "\
for _, path in ipairs({'/usr', '/usr/bin', '/usr/lib', '/usr/lib64', '/run', '/proc', '/sys', '/var'}) do
    posix.mkdir(path)
end
posix.chmod('/proc', 0555)
posix.chmod('/sys', 0555)
for path, target in pairs({['/bin'] = 'usr/bin', ['/sbin'] = 'usr/bin', ['/lib'] = 'usr/lib', ['/lib64'] = 'usr/lib64',
                           ['/usr/sbin'] = 'bin', ['/var/run'] = '../run', ['/var/lock'] = '../run/lock'}) do
    if not posix.stat(path) then
        posix.symlink(target, path)
    end
end
";

const FILESYSTEM_POSTTRANS: &str = "\
if posix.access('/usr/bin/restorecon', 'x') then
    rpm.execute('/usr/bin/restorecon', '/var', '/var/run', '/var/lock', '/sys', '/boot', '/dev', '/media')
end
";

const SETUP_POST: &str = "\
for _, name in ipairs({'passwd', 'shadow', 'group', 'gshadow'}) do
    os.remove('/etc/' .. name .. '.rpmnew')
end
if posix.access('/usr/bin/newaliases', 'x') then
    rpm.execute('/usr/bin/newaliases')
end
";

/// Adds bash to the shells that may be chosen, if it is not among them.
const BASH_POST: &str = "\
local file = io.open('/etc/shells', 'a+')
if file then
    local shells = '\\n' .. file:read('*a') .. '\\n'
    for _, shell in ipairs({'/bin/sh', '/bin/bash', '/usr/bin/sh', '/usr/bin/bash'}) do
        if not shells:find('\\n' .. shell .. '\\n', 1, true) then
            file:write(shell .. '\\n')
        end
    end
    file:close()
end
";

const LDCONFIG: &str = "\
if posix.access('/usr/bin/ldconfig', 'x') then
    rpm.execute('/usr/bin/ldconfig')
end
";

const CRYPTO_POLICIES_POST: &str = "\
if not posix.access('/etc/crypto-policies/config') then
    local file = io.open('/etc/crypto-policies/config', 'w')
    if file then
        file:write('DEFAULT\\n')
        file:close()
    end
end
for _, name in ipairs(posix.dir('/usr/share/crypto-policies/DEFAULT')) do
    local link = '/etc/crypto-policies/back-ends/' .. name:gsub('%.txt$', '.config')
    if name:find('%.txt$') and not posix.stat(link) then
        posix.symlink('/usr/share/crypto-policies/DEFAULT/' .. name, link)
    end
end
";

/// Coreutils may come after: what could not be done then is done after the transaction.
const CA_CERTIFICATES_POST: &str = "\
if [ -x /usr/bin/ln ] && [ -x /usr/bin/cp ]; then
    update-ca-trust || :
fi
";

const AUTHSELECT_POSTTRANS: &str = "\
if [ \"$1\" = 1 ]; then
    authselect select local --force --nobackup > /dev/null 2>&1
fi
exit 0
";

const SYSTEMD_POST: &str = "\
systemd-machine-id-setup > /dev/null 2>&1 || :
systemctl daemon-reexec > /dev/null 2>&1 || :
journalctl --update-catalog > /dev/null 2>&1 || :
systemd-tmpfiles --create > /dev/null 2>&1 || :
if [ \"$1\" -eq 1 ]; then
    systemctl preset-all > /dev/null 2>&1 || :
    systemctl --global preset-all > /dev/null 2>&1 || :
fi
";

const SYSTEMD_UDEV_POST: &str = "\
systemd-hwdb update > /dev/null 2>&1 || :
systemctl --no-reload preset systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket > /dev/null 2>&1 || :
";

const RELOAD_UNITS: &str = "\
if posix.access('/run/systemd/system') then
    rpm.execute('/usr/bin/systemctl', 'daemon-reload')
end
";

/// The scriptlets of the package `name`.
pub fn of(name: &str) -> Scriptlets {
    match name {
        "filesystem" => Scriptlets {
            pretrans: Some(Script::lua(FILESYSTEM_PRETRANS)),
            posttrans: Some(Script::lua(FILESYSTEM_POSTTRANS)),
            ..Scriptlets::default()
        },
        "setup" => post(Script::lua(SETUP_POST)),
        "bash" => post(Script::lua(BASH_POST)),
        "libgcc" => post(Script::lua(LDCONFIG)),
        "crypto-policies" => post(Script::lua(CRYPTO_POLICIES_POST)),
        "ca-certificates" => Scriptlets {
            posttrans: Some(Script::shell("update-ca-trust\n")),
            ..post(Script::shell(CA_CERTIFICATES_POST))
        },
        "authselect-libs" => {
            Scriptlets { posttrans: Some(Script::shell(AUTHSELECT_POSTTRANS)), ..Scriptlets::default() }
        }
        "glibc" => Scriptlets {
            triggers: vec![trigger(&["/lib", "/usr/lib", "/lib64", "/usr/lib64"], 2_000_000, Script::lua(LDCONFIG))],
            ..post(Script::lua(LDCONFIG))
        },
        "systemd" => Scriptlets { triggers: systemd_triggers(), ..post(Script::shell(SYSTEMD_POST)) },
        "systemd-udev" => Scriptlets {
            triggers: vec![
                shell_trigger(&["/usr/lib/udev/hwdb.d"], 1_000_700, "systemd-hwdb update || :\n"),
                shell_trigger(
                    &["/usr/lib/udev/rules.d"],
                    1_000_600,
                    "if test -e /run/udev/control; then udevadm control --reload || :; fi\n",
                ),
            ],
            ..post(Script::shell(SYSTEMD_UDEV_POST))
        },
        _ => Scriptlets::default(),
    }
}

fn systemd_triggers() -> Vec<FileTrigger> {
    vec![
        trigger(&["/usr/lib/systemd/system", "/etc/systemd/system"], 900_900, Script::lua(RELOAD_UNITS)),
        shell_trigger(&["/usr/lib/sysusers.d"], 1_000_700, "systemd-sysusers || :\n"),
        shell_trigger(&["/usr/lib/systemd/catalog"], 1_000_700, "journalctl --update-catalog || :\n"),
        shell_trigger(
            &["/usr/lib/tmpfiles.d"],
            1_000_600,
            "if test -d /run/systemd/system; then systemd-tmpfiles --create || :; fi\n",
        ),
        shell_trigger(
            &["/usr/lib/sysctl.d"],
            1_000_500,
            "if test -d /run/systemd/system; then /usr/lib/systemd/systemd-sysctl || :; fi\n",
        ),
    ]
}

fn post(script: Script) -> Scriptlets {
    Scriptlets { post: Some(script), ..Scriptlets::default() }
}

fn shell_trigger(directories: &[&str], priority: u32, script: &str) -> FileTrigger {
    trigger(directories, priority, Script::shell(script))
}

fn trigger(directories: &[&str], priority: u32, script: Script) -> FileTrigger {
    FileTrigger { directories: directories.iter().map(|path| (*path).to_owned()).collect(), priority, script }
}
