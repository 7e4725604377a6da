//! The repository that is shaped like Fedora 44, and its image: that the shape is there, and that what is built of it boots.
//!
//! What a Fedora user gets is tested by what Fedora's packages have and Debian's do not. The first tests are of the
//! repository itself: a quirk that the conversion lost would leave the others green for nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::fixture::{self, container, names, ocinitrd, offline_directory, stderr, stdout, succeed};
use crate::images::manifest;
use crate::units;

/// For a busy machine without KVM.
const LONG: &str = "600";
/// Has the builder's rpm print a line for each thing that it knows of the packages in `/repository`: `NAME KIND REST`.
const ASK: &str = "cd /repository/Packages && exec rpm --query --package --nosignature --queryformat '\
%{name} version %{evr}\\n[%{=name} requires %{requires}\\n][%{=name} provides %{providenevrs}\\n]\
[%{=name} signature %{openpgp:pgpsig}\\n][%{=name} file %{filenames} %{fileflags:fflags} %{filelinktos}\\n]\
%{name} scripts %{pretransprog} %{postinprog} %{posttransprog}\\n\
[%{=name} trigger %{transfiletriggerscriptprog}\\n]' *.rpm";

fn shaped_directory() -> PathBuf {
    offline_directory().join("fedora44")
}

/// What rpm says of the packages of a repository; see [`ASK`].
fn lines_of(repository: &str) -> BTreeSet<String> {
    let mut command = container();
    command.arg(format!("--volume={}:/repository:ro", shaped_directory().join(repository).display()));
    let text = succeed(command.args([&fixture::builder("dnf5"), "sh", "-c", ASK]));
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn release() -> &'static BTreeSet<String> {
    static LINES: OnceLock<BTreeSet<String>> = OnceLock::new();
    LINES.get_or_init(|| lines_of("fedora"))
}

/// How many lines begin and end so.
fn count(lines: &BTreeSet<String>, beginning: &str, end: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(beginning) && line.ends_with(end)).count()
}

#[track_caller]
fn assert_lines(expected: &[&str]) {
    for line in expected {
        assert!(release().contains(*line), "the repository has lost {line:?}");
    }
}

/// Builds the image with these arguments and a lock of its own: the repository may have been made again.
fn built(name: &str, arguments: &[&str]) -> PathBuf {
    let directory = definition(name, "");
    let output = directory.join("out");
    let file = directory.join(format!("{name}.toml"));
    succeed(ocinitrd().arg("build").arg(file).args(arguments).arg("-O").arg(&output));
    output
}

/// A directory of its own with a definition of that name: the image's with further lines.
fn definition(name: &str, lines: &str) -> PathBuf {
    let directory = fixture::checkout().join("target/test-output").join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let included = "include = [\"../../../images/offline-44.toml\"]\ndefault_profiles = [\"lvm\", \"raid\"]\n";
    fs::write(directory.join(format!("{name}.toml")), format!("{included}{lines}")).unwrap();
    directory
}

fn image() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT.get_or_init(|| built("shaped", &["-t", "cpio,directory"])).clone()
}

fn disk_maker() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT.get_or_init(|| built("shaped-disk-maker", &["--profile", "disk-maker"])).clone()
}

/// Boots these roots and checks that each has the expected result; returns their number.
fn boots(output: &Path, roots: &str, by: Option<&Path>) -> usize {
    let mut command = ocinitrd();
    command.arg("boot").arg(output).args(["--root", roots, "--timeout", LONG, "--json"]);
    command.arg("--log-dir").arg(output.join("boot").join(roots.replace(',', "-")));
    if let Some(by) = by {
        command.arg("--disks-by").arg(by);
    }
    let result = command.output().unwrap();
    let answer: Value = serde_json::from_str(&stdout(&result)).unwrap_or_else(|_| panic!("{}", stderr(&result)));
    let reports = answer["boots"].as_array().unwrap();
    let failed: Vec<&Value> = reports.iter().filter(|report| report["ok"] != true).collect();
    assert!(failed.is_empty() && result.status.success(), "{failed:#?}\n{}", stderr(&result));
    reports.len()
}

#[test]
fn the_repository_is_divided_into_packages_as_fedora_divides_them() {
    assert_lines(&[
        // Of systemd.
        "systemd requires systemd-pam",
        "systemd requires systemd-shared",
        "systemd requires systemd-sysusers",
        "systemd requires (util-linux-core or util-linux)",
        "systemd-sysusers file /usr/bin/systemd-sysusers",
        "systemd-udev file /usr/bin/systemd-cryptenroll",
        "systemd-udev file /usr/bin/systemd-repart",
        "systemd-udev file /usr/lib/systemd/system/initrd.target",
        "systemd-udev file /usr/lib/systemd/system-generators/systemd-gpt-auto-generator",
        "systemd-networkd file /usr/bin/networkctl",
        "systemd-boot-unsigned file /usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        // Of util-linux: its core has no lsblk, and needs no PAM.
        "util-linux-core file /usr/bin/mount",
        "util-linux-core file /usr/bin/switch_root",
        "util-linux file /usr/bin/lsblk",
        "util-linux requires pam",
        // Of others.
        "glibc-gconv-extra file /usr/lib64/gconv/gconv-modules",
        "p11-kit-trust file /usr/lib64/pkcs11/p11-kit-trust.so",
        "kernel-modules-core requires kernel-uname-r",
        "fedora-release requires fedora-release-common",
        "fedora-release-common requires fedora-release-identity",
    ]);
    assert_eq!(count(release(), "util-linux-core requires ", "pam"), 0);
    assert_eq!(count(release(), "util-linux-core file /usr/bin/lsblk", ""), 0);
    let systemd = release().iter().find_map(|line| line.strip_prefix("systemd version ")).unwrap();
    let version: u32 = systemd.split(['.', '-', '~']).next().unwrap().parse().unwrap();
    assert!(version >= 259, "Fedora 44 has systemd 259, and this is {systemd}");
}

#[test]
fn the_packages_have_the_weight_of_fedoras() {
    assert_lines(&[
        "systemd-udev requires kbd",
        "plymouth requires plymouth-scripts",
        "plymouth-scripts requires dracut",
        "dracut file /usr/lib/systemd/system/initrd.target.wants/dracut-mount.service  ../dracut-mount.service",
        "kbd requires kbd-misc",
        "kbd requires kbd-legacy",
        "openssl-libs requires ca-certificates",
        "openssl-libs requires crypto-policies",
        "ca-certificates requires p11-kit-trust",
        "pam requires authselect",
        "fedora-repos requires fedora-gpg-keys",
        "fedora-repos file /etc/yum.repos.d/fedora-updates.repo cn",
        "fedora-gpg-keys file /etc/keys/ima/fedora-44-ima.der",
        "fedora-release-common file /usr/share/dnf5/libdnf.conf.d/20-fedora-defaults.conf",
        "ca-certificates file /usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit",
        "ca-certificates file /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem g",
    ]);
    let keys = "fedora-gpg-keys file /etc/pki/rpm-gpg/RPM-GPG-KEY-";
    assert!(count(release(), keys, "-primary") + count(release(), keys, "-secondary") > 50);
    assert!(count(release(), "kbd-misc file /usr/lib/kbd/consolefonts/", ".psf.gz") > 300);
    assert!(count(release(), "kbd-legacy file /usr/lib/kbd/keymaps/legacy/i386/", ".kmap.gz") > 100);
}

#[test]
fn the_packages_have_the_quirks_of_fedoras() {
    assert_lines(&[
        "filesystem file /usr/sbin  bin",
        "filesystem provides filesystem(unmerged-sbin-symlinks)",
        // authselect makes them.
        "authselect-libs file /etc/nsswitch.conf g",
        "authselect-libs scripts (none) (none) /bin/sh",
        // Accounts that rpm makes of what a package provides.
        "tpm2-tss provides user(tss) = dSB0c3MgNTkgIlRQTSBhY2Nlc3MiIC8=",
        "tpm2-tss file /usr/lib/sysusers.d/tpm2-tss.conf",
        // Scriptlets and file triggers in Lua, and in a shell.
        "filesystem scripts <lua> (none) <lua>",
        "setup scripts (none) <lua> (none)",
        "bash scripts (none) <lua> (none)",
        "glibc trigger <lua>",
        "systemd trigger <lua>",
        "systemd trigger /bin/sh",
        "bash requires rpmlib(BuiltinLuaScripts)",
    ]);
    // rpm's links by build identifier: for each program and library one.
    let links = release()
        .iter()
        .filter(|line| line.contains(" file /usr/lib/.build-id/") && line.contains(" a ../../../../usr/"));
    assert!(links.count() > 500);
    assert!(count(release(), "kernel-core file /usr/lib/modules/", "/.vmlinuz.hmac") == 1);
    assert!(count(release(), "kernel-modules-core file /usr/lib/modules/", ".ko.xz") > 100);
    assert!(count(release(), "kernel-cloud-core file /usr/lib/modules/", ".ko.zst") > 100);
    assert_eq!(count(release(), "kernel-cloud-core file /usr/lib/modules/", ".ko.xz"), 0);
}

#[test]
fn some_packages_are_signed_twice_and_some_have_an_update() {
    let signatures = |name: &str| count(release(), &format!("{name} signature "), "");
    for twice in ["bash", "glibc", "kernel-core", "openssl-libs", "systemd", "systemd-udev"] {
        assert_eq!(signatures(twice), 2, "{twice}");
    }
    assert_eq!(signatures("less"), 1);
    let updates = lines_of("updates");
    let versions = |lines: &BTreeSet<String>| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with("bash version ")).cloned().collect()
    };
    let (old, new) = (versions(release()), versions(&updates));
    assert_eq!((old.len(), new), (1, vec![format!("{}.1", old[0])]));
    assert_eq!(count(&updates, "bash signature ", ""), 2);
}

#[test]
fn the_metadata_is_in_zstd_with_zchunk_beside_and_is_not_signed() {
    for repository in ["fedora", "updates"] {
        let repodata = shaped_directory().join(repository).join("repodata");
        let files = names(&repodata);
        for end in ["primary.xml.zst", "filelists.xml.zst", "primary.xml.zck", "filelists.xml.zck"] {
            assert!(files.iter().any(|name| name.ends_with(end)), "{repository} has no {end}: {files:?}");
        }
        assert!(!files.contains(&"repomd.xml.asc".to_owned()), "{files:?}");
        let repomd = fs::read_to_string(repodata.join("repomd.xml")).unwrap();
        let chunked = repomd.split("<data type=\"primary_zck\">").nth(1).expect("zchunk is in the index");
        for field in ["<header-checksum type=\"sha256\">", "<header-size>", "<open-checksum type=\"sha256\">"] {
            assert!(chunked.contains(field), "{repomd}");
        }
    }
}

#[test]
fn the_image_has_what_scriptlets_and_accounts_of_fedoras_kind_make() {
    let output = image();
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd")));
    for line in [
        " etc/initrd-release -> os-release",
        // Chosen by authselect, and what the choice leads to.
        " etc/nsswitch.conf -> /etc/authselect/nsswitch.conf",
        " etc/authselect/nsswitch.conf",
        " usr/sbin -> bin",
        " usr/bin/systemd-cryptsetup",
        " usr/bin/switch_root",
    ] {
        assert!(listing.contains(&format!("{line}\n")), "{line} is not in the initrd");
    }
    assert!(!listing.contains("usr/lib/sysimage/rpm"), "{listing}");
    let manifest = manifest(&output);
    let package = |name: &str| {
        let mut packages = manifest["packages"].as_array().unwrap().iter();
        packages.find(|package| package["name"] == name).unwrap_or_else(|| panic!("the image has no {name}"))
    };
    for name in
        ["authselect-libs", "ca-certificates", "crypto-policies", "fedora-gpg-keys", "kbd-legacy", "systemd-udev"]
    {
        package(name);
    }
    let release = package("bash")["release"].as_str().unwrap();
    assert!(release.ends_with(".1"), "bash is not that of updates: its release is {release}");
}

/// Fedora's packages are made for systems; each of these weighs more than it is worth, or opens what nobody asked for.
#[test]
fn the_image_has_nothing_of_what_only_systems_read() {
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(image().join("initrd")));
    let paths: Vec<&str> =
        listing.lines().filter_map(|line| line.split(" -> ").next()?.split_whitespace().last()).collect();
    let below = |directory: &str| paths.iter().filter(|path| path.starts_with(directory)).count();
    for directory in [
        // Keymaps and fonts, also those for graphics.
        "usr/lib/kbd",
        "usr/share/X11",
        "usr/share/consolefonts",
        "usr/share/keymaps",
        "usr/share/xkeyboard-config",
        // Certificates.
        "etc/pki/ca-trust",
        "etc/pki/java",
        "etc/pki/tls/cert",
        "usr/share/p11-kit",
        "usr/share/pki",
        // Repositories and their keys.
        "etc/dnf",
        "etc/pki/rpm-gpg",
        "etc/yum.repos.d",
        "usr/share/dnf5",
        // Who may log in.
        "etc/pam.d",
        "etc/security",
        "usr/lib64/security",
        "usr/share/authselect",
        "var/lib/authselect",
        // Others.
        "etc/keys/ima",
        "etc/swid",
        "usr/lib/.build-id",
        "usr/lib/kernel",
        "usr/lib/pcrlock.d",
        "usr/lib/systemd/initrd-preset",
        "usr/lib/systemd/system-preset",
        "usr/share/factory",
        "usr/share/crypto-policies/DEFAULT/gnutls.txt",
        "etc/crypto-policies/back-ends/openssh.config",
        // Libraries for what an initrd does not do.
        "usr/lib64/libcurl",
        "usr/lib64/libpam",
        "usr/lib64/libssl",
    ] {
        assert_eq!(below(directory), 0, "{directory} is in the initrd");
    }
    for kept in [
        // The sources of names, behind authselect's link.
        "etc/authselect/nsswitch.conf",
        "usr/lib64/libnss_systemd.so.2",
        // What libcrypto reads: openssl.cnf of Fedora's includes it.
        "etc/crypto-policies/back-ends/opensslcnf.config",
        "usr/share/crypto-policies/DEFAULT/opensslcnf.txt",
        // Of util-linux, since util-linux-core lacks it.
        "usr/bin/lsblk",
        // Of systemd 258 and newer: extensions of the root file system, and places to stop at.
        "usr/lib/systemd/system/breakpoint-pre-switch-root.service",
        "usr/lib/systemd/system/systemd-validatefs@.service",
        "etc/systemd/system/initrd.target.wants/systemd-sysext-sysroot.service",
    ] {
        assert!(paths.contains(&kept), "{kept} is not in the initrd");
    }
}

#[test]
fn the_units_of_the_newest_systemd_are_those_that_were_reviewed() {
    units::assert_reviewed(&image());
}

/// kbd is there, and in the test repository no systemd-vconsole-setup.
#[test]
fn the_console_of_a_definition_keeps_its_keymap_and_presets_without_units_are_named() {
    let directory = definition("shaped-console", "extra_trees = [\"tree\"]\n[packages]\nprograms = [\"loadkeys\"]\n");
    let tree = directory.join("tree");
    for (path, text) in [
        // These two are links in the packages: that of the console leads nowhere, the other where authselect wants it.
        ("etc/vconsole.conf", "KEYMAP=de-latin1\n"),
        ("etc/nsswitch.conf", "passwd: files systemd\ngroup: compat\n"),
        // Debian's would make that link again.
        ("etc/tmpfiles.d/debian.conf", "# Nothing.\n"),
        // In the directory that systemd before 258 reads: it counts all the same.
        ("etc/systemd/system-preset/10-mine.preset", "enable debug-shell.service\nenable no-such.service\n"),
    ] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    let output = directory.join("out");
    let mut build = ocinitrd();
    build
        .arg("build")
        .arg(directory.join("shaped-console.toml"))
        .args(["--profile", "network,plymouth", "-O"])
        .arg(&output);
    let result = build.output().unwrap();
    let told = stderr(&result);
    assert_eq!(result.status.code(), Some(0), "{told}");
    let remark = "10-mine.preset enables no-such.service, and no package and no extra tree brings that unit\n";
    assert!(told.contains(remark), "{told}");
    assert_eq!(told.matches(" enables ").count(), 1, "{told}");
    let remark = "warning: KEYMAP=de-latin1 of /etc/vconsole.conf does not count in the initrd, which has no \
                  /usr/lib/systemd/systemd-vconsole-setup: build it with --profile vconsole\n";
    assert!(told.contains(remark), "{told}");
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd")));
    for path in [
        "etc/systemd/system/sysinit.target.wants/debug-shell.service -> ",
        "qwertz/de-latin1.kmap.gz\n",
        "bin/loadkeys\n",
        // In the place of the packages' links, and read.
        " etc/vconsole.conf\n",
        " etc/nsswitch.conf\n",
        "usr/lib64/libnss_compat.so.2\n",
        // By the profile's own presets.
        "network-online.target.wants/systemd-networkd-wait-online.service -> ",
        "sysinit.target.wants/systemd-resolved.service -> ",
        "wants/systemd-networkd.service -> ",
    ] {
        assert!(listing.contains(path), "{path} is not in the initrd");
    }
    let keymaps = listing.lines().filter(|line| line.contains("/kbd/keymaps/") && line.contains(".gz")).count();
    assert!((2..10).contains(&keymaps), "the keymap and what it includes, and no other: {keymaps}");
    assert!(!listing.contains("consolefonts"));
    // Fedora's plymouth requires dracut, whose units would run.
    let packages = manifest(&output)["packages"].to_string();
    assert!(packages.contains("\"dracut\"") && listing.contains("bin/plymouthd\n"));
    assert!(!listing.contains("dracut"), "{listing}");
}

#[test]
fn roots_on_ext4_with_an_extension_and_on_luks_with_a_tpm_boot() {
    assert_eq!(boots(&image(), "ext4-extension,luks-tpm2", Some(&disk_maker())), 2);
}

#[test]
#[ignore = "boots thirty guests: part of make test-matrix"]
fn every_root_boots_from_the_image_too() {
    assert!(boots(&image(), "all", Some(&disk_maker())) > 30);
}

#[test]
#[ignore = "boots ten guests: part of make test-matrix"]
fn roots_on_servers_boot_from_the_image_too() {
    let output = built("shaped-nfs", &["--profile", "nfs"]);
    assert_eq!(boots(&output, "nfs3-dhcp,nfs3-static,nfs4-dhcp,nfs4-static,nfs-dead-server", Some(&disk_maker())), 5);
}

#[test]
#[ignore = "boots two guests: part of make test-matrix"]
fn a_boot_splash_keeps_no_root_from_being_found_and_takes_passphrases() {
    let output = built("shaped-plymouth", &["--profile", "plymouth"]);
    assert_eq!(boots(&output, "ext4-uuid,luks-passphrase", Some(&disk_maker())), 2);
}
