//! The packages that Debian has nothing like: the directories, the accounts, the release, and samples for the tests.

use std::sync::Arc;

use crate::convert::own_name;
use crate::package::{Class, Content, Dependency, File, Package, Script, Scriptlets};
use crate::version::Evr;

/// The time of everything made by hand, in seconds since 1970: the start of 2025.
pub const EPOCH: u32 = 1_735_689_600;
/// The distribution's version; the number of the Fedora release whose shape it has.
const RELEASE: &str = "44";

/// Fedora's directories and their modes.
const DIRECTORIES: [(&str, u16); 58] = [
    ("/boot", 0o555),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/etc/opt", 0o755),
    ("/etc/pki", 0o755),
    ("/etc/profile.d", 0o755),
    ("/etc/skel", 0o755),
    ("/etc/sysconfig", 0o755),
    ("/etc/xdg", 0o755),
    ("/etc/xdg/autostart", 0o755),
    ("/home", 0o755),
    ("/media", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o550),
    ("/run", 0o755),
    ("/run/lock", 0o755),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o555),
    ("/usr/games", 0o755),
    ("/usr/include", 0o755),
    ("/usr/lib", 0o555),
    ("/usr/lib/modules", 0o755),
    ("/usr/lib/sysimage", 0o755),
    ("/usr/lib/systemd", 0o755),
    ("/usr/lib/systemd/system", 0o755),
    ("/usr/lib64", 0o555),
    ("/usr/libexec", 0o755),
    ("/usr/local", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/local/lib", 0o755),
    ("/usr/local/sbin", 0o755),
    ("/usr/local/share", 0o755),
    ("/usr/share", 0o755),
    ("/usr/share/doc", 0o755),
    ("/usr/share/info", 0o755),
    ("/usr/share/licenses", 0o755),
    ("/usr/share/locale", 0o755),
    ("/usr/share/man", 0o755),
    ("/usr/share/misc", 0o755),
    ("/usr/src", 0o755),
    ("/var", 0o755),
    ("/var/adm", 0o755),
    ("/var/cache", 0o755),
    ("/var/db", 0o755),
    ("/var/empty", 0o755),
    ("/var/games", 0o755),
    ("/var/lib", 0o755),
    ("/var/lib/misc", 0o755),
    ("/var/local", 0o755),
    ("/var/log", 0o755),
    ("/var/opt", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
];

/// Fedora's links between directories, and the one that Debian's programs need.
const LINKS: [(&str, &str); 8] = [
    ("/bin", "usr/bin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/bin"),
    ("/usr/lib/x86_64-linux-gnu", "../lib64"),
    ("/usr/sbin", "bin"),
    ("/var/lock", "../run/lock"),
    ("/var/run", "../run"),
];

/// Whether the package `filesystem` has the directory, or a link in its place, so that no other package has it.
pub fn owns_directory(path: &str) -> bool {
    DIRECTORIES.iter().any(|(directory, _)| *directory == path) || LINKS.iter().any(|(link, _)| *link == path)
}

/// The packages of the repository that are made by hand; `public_key` is what the packages are signed with.
pub fn packages(public_key: &str) -> Vec<Package> {
    let mut packages = common();
    packages.extend(release(public_key));
    packages
}

/// Those that every repository has.
pub fn common() -> Vec<Package> {
    let mut basesystem = noarch("basesystem", "The skeleton package which every other one is installed on", &[]);
    basesystem.requires = ["setup", "filesystem"].map(Dependency::any).to_vec();

    let which =
        noarch("which", "Shows where a program lies", &[("/usr/bin/which", include_str!("../files/which"), 0o755)]);

    let mut theme = noarch("plymouth-system-theme", "The theme that the distribution shows", &[]);
    theme.requires = ["plymouth", "plymouth-theme-spinner"].map(Dependency::any).to_vec();

    vec![basesystem, filesystem(), setup(), which, theme, capability_sample()]
}

/// The release files, and the key.
fn release(public_key: &str) -> [Package; 3] {
    let mut release = noarch(
        "fedora-release-common",
        "Release files of the test distribution",
        &[
            ("/usr/lib/os-release", include_str!("../files/os-release"), 0o644),
            ("/usr/lib/systemd/system-preset/90-default.preset", include_str!("../files/90-default.preset"), 0o644),
            (
                "/usr/lib/systemd/system-preset/99-default-disable.preset",
                include_str!("../files/99-default-disable.preset"),
                0o644,
            ),
            ("/etc/fedora-release", "Fedora-shaped test distribution release 44\n", 0o644),
        ],
    );
    add_link(&mut release, "/etc/os-release", "../usr/lib/os-release");
    add_link(&mut release, "/etc/system-release", "fedora-release");
    release.provides.extend(["fedora-release", "system-release"].map(|name| Dependency::equal(name, &release.evr)));
    release.provides.push(Dependency::equal("system-release(releasever)", RELEASE));
    release.requires = vec![Dependency::any("fedora-repos")];

    let mut repositories = noarch("fedora-repos", "Repository definitions of the test distribution", &[]);
    repositories.requires = vec![Dependency::any("fedora-gpg-keys")];
    let key_path = "/etc/pki/rpm-gpg/RPM-GPG-KEY-offline";
    let keys = noarch("fedora-gpg-keys", "The key of the test distribution", &[(key_path, public_key, 0o644)]);

    [release, repositories, keys]
}

fn filesystem() -> Package {
    let mut package = noarch("filesystem", "The basic directory layout", &[]);
    for (path, mode) in DIRECTORIES {
        package.files.insert(path.to_owned(), File::of_root(Content::Directory, mode, EPOCH));
    }
    for (path, target) in LINKS {
        add_link(&mut package, path, target);
    }
    let mut mail = File::of_root(Content::Directory, 0o775, EPOCH);
    "mail".clone_into(&mut mail.group);
    package.files.insert("/var/spool/mail".to_owned(), mail);
    add_link(&mut package, "/var/mail", "spool/mail");
    package.requires = vec![Dependency::any("setup")];
    package
}

fn setup() -> Package {
    let mut package = noarch(
        "setup",
        "The accounts and settings that every system has",
        &[
            ("/etc/passwd", include_str!("../files/passwd"), 0o644),
            ("/etc/group", include_str!("../files/group"), 0o644),
            ("/etc/shadow", include_str!("../files/shadow"), 0o000),
            ("/etc/gshadow", include_str!("../files/gshadow"), 0o000),
            ("/etc/profile", include_str!("../files/profile"), 0o644),
            ("/etc/shells", "/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n", 0o644),
            ("/etc/host.conf", "multi on\n", 0o644),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644),
            ("/etc/motd", "", 0o644),
            ("/etc/environment", "", 0o644),
            ("/etc/services", include_str!("../files/services"), 0o644),
            ("/etc/protocols", include_str!("../files/protocols"), 0o644),
        ],
    );
    for file in package.files.values_mut() {
        file.class = Class::Configuration;
    }
    package.requires = vec![Dependency::any("system-release")];
    package
}

/// A program with a capability, a file with two names, and a directory that is not root's.
fn capability_sample() -> Package {
    let mut package = noarch("capability-sample", "File attributes that an archive must keep", &[]);
    let mut program = regular("#!/bin/sh\nexit 0\n", 0o755);
    program.capabilities = Some("cap_net_raw=ep".to_owned());
    package.files.insert("/usr/bin/capability-sample".to_owned(), program);
    let shared = Content::Regular(Arc::new(b"one file, two names\n".to_vec()));
    for name in ["first", "second"] {
        let path = format!("/usr/share/capability-sample/{name}");
        package.files.insert(path, File::of_root(shared.clone(), 0o640, EPOCH));
    }
    let mut directory = File::of_root(Content::Directory, 0o2750, EPOCH);
    "daemon".clone_into(&mut directory.user);
    "games".clone_into(&mut directory.group);
    package.files.insert("/var/lib/capability-sample".to_owned(), directory);
    package
}

/// A package whose scriptlet fails.
pub fn scriptlet_failure() -> Package {
    let mut package = noarch("scriptlet-failure", "Its scriptlet fails", &[]);
    package.scriptlets = Scriptlets {
        post: Some(Script::shell("echo 'this scriptlet fails on purpose' >&2\nexit 1\n")),
        ..Scriptlets::default()
    };
    package
}

/// A package with one file, to be signed with another key or with none.
pub fn signature_sample(name: &str) -> Package {
    noarch(name, "A package whose signature is not what it should be", &[("/etc/signature-sample", "\n", 0o644)])
}

/// Version `version` of packages that are to be updated: the sample forces one of its dependencies to the same version, and
/// not the other.
pub fn update_samples(version: u32) -> Vec<Package> {
    let made = |name: &str| {
        let evr = Evr { epoch: 0, version: version.to_string(), release: "1".to_owned() };
        let path = format!("/usr/share/{name}/version");
        let mut package = noarch(name, "A package that is updated", &[(&path, &format!("{version}\n"), 0o644)]);
        package.source_rpm = format!("{name}-{}.src.rpm", evr.without_epoch());
        package.provides = own_name(name, &evr, "noarch");
        package.build_time = EPOCH + version;
        package.evr = evr;
        package
    };
    let (forced, other) = (made("update-forced"), made("update-other"));
    let mut sample = made("update-sample");
    sample.requires = vec![Dependency::equal("update-forced", &forced.evr), Dependency::any("update-other")];
    vec![sample, forced, other]
}

/// A package for all architectures with some files.
pub fn noarch(name: &str, summary: &str, files: &[(&str, &str, u16)]) -> Package {
    let evr = Evr { epoch: 0, version: RELEASE.to_owned(), release: "1.offline".to_owned() };
    Package {
        name: name.to_owned(),
        arch: "noarch".to_owned(),
        summary: summary.to_owned(),
        description: summary.to_owned(),
        license: "Apache-2.0".to_owned(),
        url: String::new(),
        source_rpm: format!("{name}-{}.src.rpm", evr.without_epoch()),
        build_time: EPOCH,
        provides: own_name(name, &evr, "noarch"),
        evr,
        requires: Vec::new(),
        recommends: Vec::new(),
        conflicts: Vec::new(),
        scriptlets: Scriptlets::default(),
        files: files.iter().map(|(path, text, mode)| ((*path).to_owned(), regular(text, *mode))).collect(),
    }
}

fn regular(text: &str, mode: u16) -> File {
    File::of_root(Content::Regular(Arc::new(text.as_bytes().to_vec())), mode, EPOCH)
}

fn add_link(package: &mut Package, path: &str, target: &str) {
    let link = File::of_root(Content::Symlink(target.to_owned()), 0o777, EPOCH);
    package.files.insert(path.to_owned(), link);
}
