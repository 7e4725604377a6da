//! Who signed what, by the offline repository's packages and keys, compared with what rpm and gpg say.

use std::path::{Path, PathBuf};
use std::process::Command;

use ocinitrd::packages::rpm_file::{Author, signatures};
use ocinitrd_format::openpgp::{Issuer, PublicKey};

use crate::fixture;

fn key(name: &str) -> PublicKey {
    let text = std::fs::read(fixture::offline_directory().join("keys").join(name)).unwrap();
    let mut keys = PublicKey::parse_all(&text).unwrap();
    assert_eq!(keys.len(), 1);
    keys.remove(0)
}

fn packages(repository: &str) -> Vec<PathBuf> {
    let directory = fixture::offline_directory().join(repository).join("Packages");
    fixture::names(&directory).iter().map(|name| directory.join(name)).collect()
}

/// The key id or fingerprint that rpm prints at the end of a signature's description.
fn by_rpm(package: &Path) -> String {
    let mut rpm = Command::new("rpm");
    rpm.args(["-qp", "--nosignature", "--qf", "%{RSAHEADER:pgpsig}"]).arg(package);
    fixture::succeed(&mut rpm).rsplit(' ').next().unwrap().to_owned()
}

/// Who the package says has signed it; it has one signature.
fn signer(package: &Path) -> Issuer {
    let signatures = signatures(package).unwrap();
    match &signatures[..] {
        [one] => match &one.author {
            Author::Key(issuer) => issuer.clone(),
            Author::Unknown(reason) => panic!("{reason}"),
        },
        several => panic!("{several:?}"),
    }
}

#[test]
fn signed_packages_name_the_key_that_rpm_names() {
    let (offline, foreign) = (key("offline.asc"), key("foreign.asc"));
    for (repository, made, other) in [("repo", &offline, &foreign), ("repo-foreign", &foreign, &offline)] {
        for package in packages(repository).iter().take(5) {
            let issuer = signer(package);
            assert!(matches!(issuer, Issuer::Fingerprint(_)), "{issuer}");
            assert!(issuer.to_string().ends_with(&by_rpm(package)), "{issuer}");
            assert!(made.made(&issuer) && !other.made(&issuer), "{issuer}");
        }
    }
    let signature = std::fs::read(fixture::offline_directory().join("repo/repodata/repomd.xml.asc")).unwrap();
    assert!(offline.made(&Issuer::of_signature(&signature).unwrap()));
}

#[test]
fn unsigned_packages_name_nobody() {
    for package in packages("repo-unsigned") {
        assert_eq!(signatures(&package).unwrap(), []);
    }
}

#[test]
fn keys_are_what_gpg_says() {
    for name in ["offline.asc", "foreign.asc"] {
        let mut gpg = Command::new("gpg");
        gpg.args(["--with-colons", "--show-keys"]).arg(fixture::offline_directory().join("keys").join(name));
        let listing = fixture::succeed(&mut gpg);
        let field = |kind: &str| {
            let line = listing.lines().find(|line| line.starts_with(kind)).unwrap();
            line.split(':').nth(9).unwrap().to_owned()
        };
        let key = key(name);
        assert_eq!((key.fingerprint.to_string(), &key.user_ids), (field("fpr").to_lowercase(), &vec![field("uid")]));
    }
}
