//! What a converted package gains.

use super::*;
use crate::handmade::noarch;

/// The beginning of an ELF file whose only segment is the note with a build identifier.
fn elf(identifier: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 4;
    bytes[64 + 8] = 64 + 56;
    bytes[64 + 32] = 16 + identifier.len() as u8;
    bytes.extend([4, 0, 0, 0, identifier.len() as u8, 0, 0, 0, 3, 0, 0, 0]);
    bytes.extend(b"GNU\0");
    bytes.extend(identifier);
    bytes
}

#[test]
fn a_program_is_linked_by_its_build_identifier() {
    let mut package = noarch("tool", "", &[("/usr/bin/script", "#!/bin/sh\n", 0o755)]);
    add_file(&mut package, "/usr/bin/tool", elf(&[0xab, 0xcd, 0xef, 0x01]), 0o755);
    shape(&mut package).unwrap();
    let link = &package.files["/usr/lib/.build-id/ab/cdef01"];
    assert!(matches!(&link.content, Content::Symlink(target) if target == "../../../../usr/bin/tool"), "{link:?}");
    assert_eq!(link.class, Class::Artifact);
    let paths: Vec<&String> = package.files.keys().collect();
    assert_eq!(paths.len(), 5, "{paths:?}");
}

#[test]
fn an_update_provides_its_own_version() {
    assert!(update_of(&noarch("sample", "", &[])).is_none());
    let update = update_of(&noarch("less", "", &[])).unwrap();
    assert_eq!(update.evr.to_string(), "0:44-1.offline.1");
    assert!(update.provides.contains(&Dependency::equal("less", "0:44-1.offline.1")), "{:?}", update.provides);
}

#[test]
fn the_packages_made_by_hand_hold_the_keys_and_settings_of_fedora() {
    let others = [("fedora-43-primary".to_owned(), "a key\n".to_owned())];
    let packages = packages("the key\n", &others).unwrap();
    let files = |name: &str| &packages.iter().find(|package| package.name == name).unwrap().files;
    for (package, path) in [
        ("fedora-gpg-keys", "/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-44-x86_64"),
        ("fedora-gpg-keys", "/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-43-primary"),
        ("fedora-gpg-keys", "/etc/keys/ima/fedora-44-ima.der"),
        ("fedora-repos", "/etc/yum.repos.d/fedora-updates.repo"),
        ("fedora-release-common", "/usr/share/dnf5/libdnf.conf.d/20-fedora-defaults.conf"),
        ("crypto-policies", "/etc/crypto-policies/config"),
    ] {
        assert!(files(package).contains_key(path), "{path}");
    }
    let merged = &files("filesystem")["/usr/sbin"].content;
    assert!(matches!(merged, Content::Symlink(target) if target == "bin"), "{merged:?}");
    let setup = packages.iter().find(|package| package.name == "setup").unwrap();
    assert!(setup.provides.iter().any(|provided| provided.name == "user(games)"), "{:?}", setup.provides);
}
