//! The packages of Fedora that Debian has nothing like, with all that a build finds in them: release files, dozens of
//! keys, repository files, certificates for IMA, settings of dnf, cryptographic policies.

use sha2::{Digest, Sha256};

use super::{add_configuration, add_directory, add_file, add_ghost, add_link, require};
use crate::handmade::{self, noarch};
use crate::package::{Dependency, Package};

/// The distribution's version.
const RELEASE: &str = "44";
/// Architectures with a link to each release's key.
const ARCHITECTURES: [&str; 4] = ["aarch64", "ppc64le", "s390x", "x86_64"];
/// What cryptographic policies are written for.
const BACK_ENDS: [&str; 14] = [
    "bind",
    "gnutls",
    "java",
    "javasystem",
    "krb5",
    "libreswan",
    "libssh",
    "nss",
    "openssh",
    "openssh-server",
    "openssl",
    "opensslcnf",
    "rpm-sequoia",
    "sequoia",
];

/// The packages that are made by hand; `public_key` is what packages are signed with, and `others` are keys of other
/// releases with their names.
///
/// # Errors
/// Fails when a package cannot be shaped.
pub fn packages(public_key: &str, others: &[(String, String)]) -> anyhow::Result<Vec<Package>> {
    let mut packages = handmade::common();
    for package in &mut packages {
        match package.name.as_str() {
            "filesystem" => merge_sbin(package),
            "setup" => add_settings_of_setup(package),
            _ => {}
        }
    }
    packages.extend([
        release(),
        release_common(),
        release_identity(),
        repositories(),
        keys(public_key, others),
        crypto_policies(),
        dracut(),
        plymouth_scripts(),
    ]);
    packages.iter_mut().try_for_each(super::shape)?;
    Ok(packages)
}

/// All programs are in one directory, in `/usr/local` too.
fn merge_sbin(filesystem: &mut Package) {
    add_link(filesystem, "/usr/local/sbin", "bin");
    for path in ["/usr/lib/debug", "/usr/lib/debug/usr", "/usr/share/filesystem", "/usr/lib/systemd/system-preset"] {
        add_directory(filesystem, path);
    }
    filesystem.provides.push(Dependency::any("filesystem(unmerged-sbin-symlinks)"));
}

fn add_settings_of_setup(setup: &mut Package) {
    let users = "u root 0:0 \"Super User\" /root /bin/bash\nu games 12:100 \"games\" /usr/games\nu mail 8:12 - /var/spool/mail\n";
    let groups = "g adm 4\ng audio 63\ng cdrom 11\ng clock 103\ng dialout 18\ng disk 6\ng input 104\ng kmem 9\ng kvm 36\ng lp 7\ng mail 12\n\
                  g render 105\ng sgx 106\ng tape 33\ng tty 5\ng users 100\ng utmp 22\ng video 39\ng wheel 10\n";
    add_file(setup, "/usr/lib/sysusers.d/20-setup-users.conf", users, 0o644);
    add_file(setup, "/usr/lib/sysusers.d/20-setup-groups.conf", groups, 0o644);
    for (path, text) in [
        ("/etc/aliases", "postmaster: root\n"),
        ("/etc/exports", ""),
        ("/etc/filesystems", "ext4\nxfs\nbtrfs\nvfat\n*\n"),
        ("/etc/inputrc", "set bell-style none\n"),
        ("/etc/bashrc", "# /etc/bashrc\n"),
        ("/etc/profile.d/lang.sh", "# Sets the language of a session.\n"),
        ("/etc/subuid", ""),
        ("/etc/subgid", ""),
        ("/etc/dnf/protected.d/setup.conf", "setup\n"),
    ] {
        add_configuration(setup, path, text);
    }
    for path in
        ["/usr/share/dnf5", "/usr/share/dnf5/libdnf.conf.d", "/etc/dnf/protected.d", "/etc/motd.d", "/usr/lib/motd.d"]
    {
        add_directory(setup, path);
    }
    add_file(setup, "/usr/share/dnf5/libdnf.conf.d/protect-setup.conf", "[main]\nprotected_packages = setup\n", 0o644);
}

/// Of dracut that which counts in an initrd of another tool: its units, which packages install where those of systemd are, and the
/// data that they are about.
fn dracut() -> Package {
    const PHASES: [&str; 7] = ["cmdline", "initqueue", "mount", "pre-mount", "pre-pivot", "pre-trigger", "pre-udev"];
    let mut package = noarch(
        "dracut",
        "The shape of an initramfs generator",
        &[
            ("/etc/dracut.conf", "# dracut.conf(5)\n", 0o644),
            ("/usr/bin/dracut", "#!/bin/bash\nexit 1\n", 0o755),
            ("/usr/bin/lsinitrd", "#!/bin/bash\nexit 1\n", 0o755),
            ("/usr/lib/dracut/dracut-functions.sh", "#!/bin/bash\n", 0o755),
            ("/usr/lib/dracut/dracut.conf.d/01-dist.conf", "i18n_vars=\"\"\n", 0o644),
            ("/usr/lib/dracut/modules.d/99base/module-setup.sh", "#!/bin/bash\ncheck() { return 0; }\n", 0o755),
            ("/usr/lib/kernel/install.d/50-dracut.install", "#!/bin/bash\nexit 1\n", 0o755),
        ],
    );
    for phase in PHASES {
        let text = format!("[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=-/bin/dracut-{phase}\n");
        add_file(&mut package, &format!("/usr/lib/systemd/system/dracut-{phase}.service"), text, 0o644);
        let link = format!("/usr/lib/systemd/system/initrd.target.wants/dracut-{phase}.service");
        add_link(&mut package, &link, &format!("../dracut-{phase}.service"));
    }
    package.requires =
        ["bash", "coreutils", "kmod", "procps-ng", "systemd", "systemd-udev", "util-linux"].map(Dependency::any).into();
    package
}

/// What makes plymouth require dracut.
fn plymouth_scripts() -> Package {
    let mut package = noarch("plymouth-scripts", "Scripts that go with plymouth", &[]);
    package.requires = ["coreutils", "dracut", "gzip", "plymouth", "xkeyboard-config"].map(Dependency::any).into();
    package
}

/// What names the variant of the distribution.
fn release() -> Package {
    let mut package = noarch("fedora-release", "Release files of the test distribution", &[]);
    let evr = package.evr.clone();
    package.provides.push(Dependency::equal("fedora-release-variant", &evr));
    package.provides.extend(["system-release", &format!("system-release({RELEASE})")].map(Dependency::any));
    package.requires = vec![Dependency::equal("fedora-release-common", &evr)];
    package
}

fn release_common() -> Package {
    let mut package = noarch(
        "fedora-release-common",
        "Release files that all variants of the test distribution have",
        &[
            ("/usr/lib/fedora-release", "Fedora-shaped test distribution release 44\n", 0o644),
            ("/usr/lib/system-release-cpe", "cpe:/o:offline:offline:44\n", 0o644),
            ("/usr/lib/issue", "\\S\nKernel \\r on \\m (\\l)\n\n", 0o644),
            ("/usr/lib/issue.net", "\\S\nKernel \\r on \\m (\\l)\n", 0o644),
            ("/usr/lib/rpm/macros.d/macros.dist", "%fedora 44\n%dist .fc44\n", 0o644),
            ("/usr/lib/systemd/system-preset/90-default.preset", include_str!("../../files/90-default.preset"), 0o644),
            ("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n", 0o644),
            (
                "/usr/lib/systemd/user-preset/90-default-user.preset",
                "enable dbus.socket\nenable dbus-broker.service\n",
                0o644,
            ),
            ("/usr/lib/systemd/user-preset/99-default-disable.preset", "disable *\n", 0o644),
            ("/usr/lib/swidtag/offline.invalid/offline-44.swidtag", "<SoftwareIdentity name=\"offline\"/>\n", 0o644),
            (
                "/usr/share/dnf5/libdnf.conf.d/20-fedora-defaults.conf",
                "[main]\nbest = False\nskip_if_unavailable = True\n",
                0o644,
            ),
        ],
    );
    for (path, target) in [
        ("/etc/os-release", "../usr/lib/os-release"),
        ("/etc/fedora-release", "../usr/lib/fedora-release"),
        ("/etc/redhat-release", "fedora-release"),
        ("/etc/system-release", "fedora-release"),
        ("/etc/system-release-cpe", "../usr/lib/system-release-cpe"),
        ("/etc/issue", "../usr/lib/issue"),
        ("/etc/issue.net", "../usr/lib/issue.net"),
        ("/etc/swid/swidtags.d/offline.invalid", "../../../usr/lib/swidtag/offline.invalid"),
    ] {
        add_link(&mut package, path, target);
    }
    let evr = package.evr.clone();
    package.provides.push(Dependency::equal("system-release(releasever)", RELEASE));
    package.requires = vec![
        Dependency::equal("fedora-release-variant", &evr),
        Dependency::equal("fedora-release-identity", &evr),
        Dependency::any(format!("fedora-repos({RELEASE})")),
    ];
    package
}

fn release_identity() -> Package {
    let path = "/usr/lib/os-release";
    let text = include_str!("../../files/os-release");
    let mut package = noarch("fedora-release-identity-basic", "Names the test distribution", &[(path, text, 0o644)]);
    let evr = package.evr.clone();
    package.provides.push(Dependency::equal("fedora-release-identity", &evr));
    package
}

fn repositories() -> Package {
    let mut package = noarch("fedora-repos", "Repository files of the test distribution", &[]);
    add_directory(&mut package, "/etc/yum.repos.d");
    for (name, enabled) in
        [("fedora", 1), ("fedora-updates", 1), ("fedora-updates-testing", 0), ("fedora-cisco-openh264", 1)]
    {
        let text = ["", "-debuginfo", "-source"]
            .map(|kind| section(&format!("{name}{kind}"), if kind.is_empty() { enabled } else { 0 }));
        add_configuration(&mut package, &format!("/etc/yum.repos.d/{name}.repo"), text.join("\n"));
    }
    package.provides.push(Dependency::any(format!("fedora-repos({RELEASE})")));
    require(&mut package, &["fedora-gpg-keys", "system-release(releasever)"]);
    package
}

/// A section of a repository file.
fn section(name: &str, enabled: u8) -> String {
    format!(
        "[{name}]\nname=Test distribution $releasever - $basearch - {name}\n\
         metalink=https://mirrors.offline.invalid/metalink?repo={name}-$releasever&arch=$basearch\nenabled={enabled}\n\
         countme=1\nmetadata_expire=7d\nrepo_gpgcheck=0\ntype=rpm\ngpgcheck=1\n\
         gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-$releasever-$basearch\nskip_if_unavailable=False\n"
    )
}

fn keys(public_key: &str, others: &[(String, String)]) -> Package {
    let mut package = noarch("fedora-gpg-keys", "Keys of the test distribution, and made-up ones", &[]);
    let beginning = "/etc/pki/rpm-gpg/RPM-GPG-KEY-";
    add_directory(&mut package, "/etc/pki/rpm-gpg");
    let own = (format!("fedora-{RELEASE}-primary"), public_key.to_owned());
    for (name, key) in others.iter().chain([&own]) {
        add_file(&mut package, &format!("{beginning}{name}"), key.as_str(), 0o644);
        if let Some(release) = name.strip_suffix("-primary") {
            for architecture in ARCHITECTURES {
                add_link(&mut package, &format!("{beginning}{release}-{architecture}"), &format!("RPM-GPG-KEY-{name}"));
            }
        }
    }
    add_link(&mut package, &format!("{beginning}{RELEASE}-fedora"), &format!("RPM-GPG-KEY-fedora-{RELEASE}-primary"));
    for release in 38..=46 {
        let name = format!("fedora-{release}-ima.der");
        add_file(&mut package, &format!("/etc/keys/ima/{name}"), made_up_bytes(&name), 0o644);
    }
    add_file(&mut package, "/usr/share/ima/ca.der", made_up_bytes("ca.der"), 0o644);
    package
}

/// As many bytes as a certificate has, which differ by `name`.
fn made_up_bytes(name: &str) -> Vec<u8> {
    (0..25).flat_map(|block| Sha256::digest(format!("{name} {block}"))).collect()
}

fn crypto_policies() -> Package {
    let mut package = noarch("crypto-policies", "Cryptographic policies of the whole system", &[]);
    for name in ["back-ends", "local.d", "policies", "policies/modules", "state"] {
        add_directory(&mut package, &format!("/etc/crypto-policies/{name}"));
    }
    for policy in ["DEFAULT", "FIPS", "FUTURE", "LEGACY"] {
        for name in BACK_ENDS {
            add_file(
                &mut package,
                &format!("/usr/share/crypto-policies/{policy}/{name}.txt"),
                format!("# {policy}\n"),
                0o644,
            );
        }
        add_file(
            &mut package,
            &format!("/usr/share/crypto-policies/policies/{policy}.pol"),
            "hash = SHA2-256\n",
            0o644,
        );
    }
    add_file(&mut package, "/usr/share/crypto-policies/default-config", "DEFAULT\n", 0o644);
    add_ghost(&mut package, "/etc/crypto-policies/config");
    for name in BACK_ENDS {
        add_ghost(&mut package, &format!("/etc/crypto-policies/back-ends/{name}.config"));
    }
    package
}
