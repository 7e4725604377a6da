//! Packages signed as rpm 6 signs them, with several keys of versions 4 and 6, and in ways that nobody knows: what counts, what
//! is said, what is refused, by builder images with rpm 6 (dnf5) and rpm 4 (dnf4).
//!
//! Keys of post-quantum algorithms cannot be made with what Debian has. In their place are signatures and keys of an algorithm
//! that there is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocinitrd_format::openpgp::{Fingerprint, PublicKey};

use crate::distribution::signing_container;
use crate::fixture::{self, CACHE, fail, names, offline_directory, stderr, succeed};
use crate::images::{SMALL, change, command_test, image_with_samples, small_image};

/// Makes keys `four` and `six` of these versions, and packages that they signed; `/made` has one that is to be signed.
const SIGN: &str = r#"
set -eu
export HOME=/tmp/home GNUPGHOME=/tmp/gnupg
mkdir -m 700 $HOME $GNUPGHOME
cd /made
gpg --batch --quiet --passphrase '' --pinentry-mode loopback --quick-generate-key 'four <four@ocinitrd.invalid>' rsa3072 sign never
gpg --armor --export > four.asc
sq --home /tmp/sq key generate --quiet --own-key --userid 'six <six@ocinitrd.invalid>' --profile rfc9580 --cannot-encrypt \
    --cannot-authenticate --without-password --output six.key --rev-cert /tmp/six.rev
sq --home /tmp/sq key import --quiet six.key
sq --home /tmp/sq key delete --quiet --cert-file six.key --output six.asc
four=$(gpg --with-colons --list-keys | sed -n 's/^fpr:*\([0-9A-F]*\):$/\1/p' | sed -n 1p)
six=$(sq --home /tmp/sq inspect six.key | sed -n 's/^ *Fingerprint: //p' | sed -n 1p)
sign_four() { rpmsign -D '_openpgp_sign gpg' -D "_openpgp_sign_id $four" --addsign --rpmv6 "$@"; }
sign_six() { rpmsign -D '_openpgp_sign sq' -D '_sq_path /tmp/sq' -D "_openpgp_sign_id $six" --addsign --rpmv6 "$@"; }
rpmsign --delsign unsigned.rpm
for name in four six both; do cp unsigned.rpm $name.rpm; done
sign_four four.rpm
sign_six six.rpm
sign_four both.rpm
sign_six both.rpm
rm six.key
"#;

/// The package that is signed in so many ways.
const NAME: &str = "update-other";
const FILE: &str = "update-other-1-1.noarch.rpm";

/// Where the keys and packages are; made once a run of the tests.
fn made() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = fixture::checkout().join("target/test-output/signatures");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let sample = offline_directory().join("repo-update-1/Packages").join(FILE);
        fs::copy(sample, directory.join("unsigned.rpm")).unwrap();
        let container = signing_container(&[(&directory, "/made")]);
        succeed(&mut container.run(&["bash", "-c", SIGN]));
        directory
    })
}

fn rpm(name: &str) -> Vec<u8> {
    fs::read(made().join(format!("{name}.rpm"))).unwrap()
}

fn key(name: &str) -> PublicKey {
    PublicKey::parse_all(&fs::read(made().join(format!("{name}.asc"))).unwrap()).unwrap().remove(0)
}

/// A change of a signature packet, whose body begins at the offset.
type Change = fn(packet: &mut [u8], body: usize);

/// A change of a package that does not become longer.
type Tamper = fn(rpm: &mut Vec<u8>);

const OTHER_VERSION: Change = |packet, body| packet[body] = 9;
const OTHER_ALGORITHM: Change = |packet, body| packet[body + 2] = 99;
const OTHER_NUMBER: Change = |packet, _| *packet.last_mut().unwrap() ^= 1;

/// Changes the signatures of an rpm that a key of this version made, under the tags of rpm 6 and of rpm 4. Their length stays.
fn change_signatures(rpm: &mut [u8], version: u8, change: Change) {
    let body = |packet: &[u8]| match packet[0] & 0x40 {
        0 => 1 + (1 << (packet[0] & 3)),
        _ if packet[1] < 192 => 2,
        _ => 3,
    };
    let is_wanted = |packet: &[u8]| packet.len() > 64 && packet[0] & 0x80 != 0 && packet[body(packet)] == version;
    // Of the header of signatures; strings end with a zero.
    let end = 96 + 16 + rpm[96..].windows(4).skip(16).position(|bytes| bytes == [0x8e, 0xad, 0xe8, 1]).unwrap();
    let mut start = 96;
    let mut changed = 0;
    while let Some(length) = rpm[start..end].iter().position(|byte| *byte == 0) {
        let text = start..start + length;
        let decoded = STANDARD.decode(&rpm[text.clone()]).ok();
        if let Some(mut packet) = decoded.filter(|packet| is_wanted(packet)) {
            let before = packet.clone();
            let offset = body(&packet);
            change(&mut packet, offset);
            rpm[text].copy_from_slice(STANDARD.encode(&packet).as_bytes());
            if let Some(position) = rpm[..end].windows(before.len()).position(|bytes| bytes == before) {
                rpm[position..position + packet.len()].copy_from_slice(&packet);
            }
            changed += 1;
        }
        start += length + 1;
    }
    assert_eq!(changed, 1, "the package has one such signature");
}

fn changed(name: &str, version: u8, change: Change) -> Vec<u8> {
    let mut rpm = rpm(name);
    change_signatures(&mut rpm, version, change);
    rpm
}

/// A key of version 6 and an algorithm that there is not, or of version 5, as armored text.
fn unknown_key(version: u8) -> String {
    let mut body = vec![version, 0x67, 0x74, 0x8e, 0x80, 99, 0, 0, 0, 64];
    body.extend([7; 64]);
    let name = b"unknown <unknown@ocinitrd.invalid>";
    let packet = |kind: u8, body: &[u8]| [&[0xc0 | kind, u8::try_from(body.len()).unwrap()], body].concat();
    let packets = [packet(6, &body), packet(13, name)].concat();
    let digits = STANDARD.encode(packets);
    format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{digits}\n-----END PGP PUBLIC KEY BLOCK-----\n")
}

/// An image of which the package `rpm` is all, and a kernel.
struct Image(tempfile::TempDir);

impl Image {
    /// `keys` are the texts of gpg_keys, in their order.
    fn new(builder: &str, rpm: &[u8], keys: &[String]) -> Self {
        let image = Image(small_image(builder, "repo-foreign", &format!("\"{NAME}\"")));
        let offline = offline_directory();
        let second =
            format!("{}/repo-foreign\"\ngpg_keys = [\"{}/keys/offline.asc\"]", offline.display(), offline.display());
        let names: Vec<String> = (0..keys.len()).map(|number| format!("\"{number}.asc\"")).collect();
        let own = format!("{}\"\ngpg_keys = [{}]", image.second().display(), names.join(", "));
        change(&image.0, &second, &own);
        for (number, key) in keys.iter().enumerate() {
            fs::write(image.0.path().join(format!("images/{number}.asc")), key).unwrap();
        }
        image.serve(rpm);
        image
    }

    /// Signed by these of the keys that were made, all of which are in gpg_keys.
    fn with_keys(builder: &str, rpm: &[u8], keys: &[&str]) -> Self {
        let keys: Vec<String> = keys.iter().map(|name| key(name).armored).collect();
        Image::new(builder, rpm, &keys)
    }

    fn second(&self) -> PathBuf {
        self.0.path().join("second")
    }

    fn serve(&self, rpm: &[u8]) {
        fs::create_dir_all(self.second().join("Packages")).unwrap();
        fs::write(self.second().join("Packages").join(FILE), rpm).unwrap();
        succeed(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(self.second()));
    }

    fn command(&self, command: &str) -> Command {
        command_test(self.0.path(), command)
    }

    /// Locks, and returns which key is in the lock for the package, and the warnings.
    fn locked(&self) -> (Fingerprint, Vec<String>) {
        let output = self.command("lock").output().unwrap();
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let lock: toml::Value =
            toml::from_str(&fs::read_to_string(self.0.path().join("images/test.lock")).unwrap()).unwrap();
        let packages = lock["arch"]["x86_64"]["package"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"].as_str() == Some(NAME)).unwrap();
        let warnings = said.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned);
        (package["key"].as_str().unwrap().parse().unwrap(), warnings.collect())
    }

    /// That the package is refused in these words, and nothing is left.
    fn refused(&self, words: &[&str]) {
        let before = names(&self.0.path().join("images"));
        let error = fail(&mut self.command("lock"));
        for words in words {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert_eq!(names(self.0.path()), ["images", "second"], "{error}");
        assert_eq!(names(&self.0.path().join("images")), before, "{error}");
    }
}

const BUILDERS: [&str; 2] = ["dnf5", "dnf4"];

#[test]
fn one_of_several_signatures_counts_and_what_was_not_checked_is_said() {
    let (four, six) = (key("four").fingerprint, key("six"));
    for builder in BUILDERS {
        let (locked, warnings) = Image::with_keys(builder, &rpm("both"), &["four"]).locked();
        assert_eq!(locked, four);
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let start = "warning: could not check a signature by the key ";
        assert!(warning.starts_with(start), "{warning}");
        let end = ", which is not in the repository's gpg_keys, but another one verifies: update-other-1-1.noarch";
        assert!(warning.ends_with(end), "{warning}");
        let issuer = warning[start.len()..].split(',').next().unwrap().parse().unwrap();
        assert!(six.made(&ocinitrd_format::openpgp::Issuer::Fingerprint(issuer)), "{warning}");
    }
    // Of the keys that rpm knows, it is the first of gpg_keys.
    let (locked, warnings) = Image::with_keys("dnf5", &rpm("both"), &["six", "four"]).locked();
    assert_eq!((locked, warnings), (six.fingerprint.clone(), Vec::new()));
    let (locked, warnings) = Image::with_keys("dnf4", &rpm("both"), &["six", "four"]).locked();
    assert_eq!(locked, four);
    let expected = format!(
        "warning: could not check a signature by the key {} (rpm does not recognize the signature), but another one verifies: \
         update-other-1-1.noarch",
        six.fingerprint
    );
    assert_eq!(warnings, [expected]);
}

#[test]
fn what_the_builder_or_nobody_knows_is_said_beside_a_good_signature_and_refused_alone() {
    let (four, six) = (key("four").fingerprint, key("six").fingerprint);
    for builder in BUILDERS {
        let (locked, warnings) =
            Image::with_keys(builder, &changed("both", 6, OTHER_ALGORITHM), &["six", "four"]).locked();
        assert_eq!((locked, warnings.len()), (four.clone(), 1));
        assert!(warnings[0].contains(&format!("could not check a signature by the key {six} (rpm ")), "{warnings:?}");
        let (locked, warnings) = Image::with_keys(builder, &changed("both", 6, OTHER_VERSION), &["four"]).locked();
        assert_eq!((locked, warnings.len()), (four.clone(), 1));
        let unknown = "could not check a signature of an unknown kind (reading the signature: it has version 9";
        assert!(warnings[0].contains(unknown), "{warnings:?}");

        let cannot = "not installing packages whose signatures the builder image's rpm cannot check:";
        let by = format!("update-other-1-1.noarch: signed by the key {four}: rpm ");
        let hint = "use a builder image with a newer rpm";
        Image::with_keys(builder, &changed("four", 4, OTHER_ALGORITHM), &["four"]).refused(&[cannot, &by, hint]);
    }
    let hint = "rpm does not recognize the signature";
    Image::with_keys("dnf4", &rpm("six"), &["six"]).refused(&["the builder image's rpm cannot check", hint]);
    assert_eq!(Image::with_keys("dnf5", &rpm("six"), &["six"]).locked(), (six, Vec::new()));
    Image::with_keys("dnf5", &changed("four", 4, OTHER_VERSION), &["four"]).refused(&[
        "not using the package update-other-1-1.noarch of the repository second: it has only signatures of an unknown kind \
         (reading the signature: it has version 9",
    ]);
}

#[test]
fn what_is_unsigned_foreign_or_tampered_with_is_refused_whatever_signatures_it_has() {
    let not_using = "not using the package update-other-1-1.noarch of the repository second: it is ";
    for builder in BUILDERS {
        let unsigned = Image::with_keys(builder, &rpm("unsigned"), &["four"]);
        unsigned.refused(&[&format!("{not_using}not signed")]);
        let tampered: [(&str, Tamper); 3] = [
            ("payload", |rpm| *rpm.iter_mut().nth_back(8).unwrap() ^= 1),
            ("header", |rpm| {
                let text = b"A package that is updated";
                let position = rpm.windows(text.len()).position(|window| window == text).unwrap();
                rpm[position] ^= 1;
            }),
            ("signature", |rpm| change_signatures(rpm, 4, OTHER_NUMBER)),
        ];
        for (what, tamper) in tampered {
            let mut rpm = rpm("both");
            tamper(&mut rpm);
            let does_not_verify =
                "not installing packages whose signature does not verify with the keys of the definition:";
            // The signature of version 6 is right in the last case.
            println!("{builder}: {what}");
            Image::with_keys(builder, &rpm, &["six", "four"]).refused(&[
                does_not_verify,
                "update-other-1-1.noarch: ",
                ": BAD",
            ]);
        }
    }
    let offline = fs::read_to_string(offline_directory().join("keys/offline.asc")).unwrap();
    let foreign = Image::new("dnf5", &rpm("both"), &[offline]);
    foreign.refused(&[&format!("{not_using}signed by the keys "), "none of which is in gpg_keys of that repository"]);
}

#[test]
fn a_key_that_nobody_knows_is_a_warning_beside_others_and_an_error_alone() {
    let four = key("four");
    for builder in BUILDERS {
        let keys = [unknown_key(6), four.armored.clone()];
        let (locked, warnings) = Image::new(builder, &rpm("four"), &keys).locked();
        assert_eq!((locked, warnings.len()), (four.fingerprint.clone(), 1));
        let expected = "0.asc of [repos.second], so signatures by it do not count: error: ";
        assert!(warnings[0].starts_with("warning: the builder image's rpm cannot import a key in "), "{warnings:?}");
        assert!(warnings[0].contains(expected), "{warnings:?}");

        let alone = Image::new(builder, &rpm("four"), &[unknown_key(6)]);
        alone.refused(&[
            "the builder image's rpm cannot import any key in gpg_keys of [repos.second]:",
            "use a builder image with a newer rpm, or add another key of the repository to gpg_keys",
        ]);

        // In one file with the key that signed the metadata: dnf takes none of them then.
        let image = Image::with_keys(builder, &rpm("four"), &["four"]);
        let offline = offline_directory().join("keys/offline.asc");
        let mixed = [unknown_key(6), fs::read_to_string(&offline).unwrap()].concat();
        fs::write(image.0.path().join("images/mixed.asc"), mixed).unwrap();
        change(&image.0, offline.to_str().unwrap(), "mixed.asc");
        let (_, warnings) = image.locked();
        assert!(warnings[0].contains("cannot import a key in ") && warnings[0].contains("mixed.asc"), "{warnings:?}");
    }
    // Of a version that is not read here.
    let keys = [unknown_key(5), four.armored.clone()];
    let (_, warnings) = Image::new("dnf5", &rpm("four"), &keys).locked();
    let read = |warning: &&String| warning.contains("it has version 5, which is not supported");
    assert_eq!(warnings.iter().filter(read).count(), 1, "{warnings:?}");
    let alone = fail(&mut Image::new("dnf5", &rpm("four"), &[unknown_key(5)]).command("lock"));
    assert!(alone.contains("[repos.second]"), "{alone}");
}

#[test]
fn what_no_rpm_can_read_beside_a_good_signature_is_installed_and_comes_from_the_archive_of_its_key() {
    let image = image_with_samples("repo-update-1");
    let second = image.path().join("second");
    fs::write(second.join("Packages").join(FILE), changed("both", 4, OTHER_VERSION)).unwrap();
    succeed(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(&second));
    let archive = image.path().join("archive");
    let offline = offline_directory();
    let from = format!("{}\"\ngpg_keys = [\"{}/keys/offline.asc\"]", second.display(), offline.display());
    let to = format!(
        "{}\"\narchive = \"file://{}/$keyid/$file\"\ngpg_keys = [\"{}/keys/offline.asc\", \"{}\"]",
        second.display(),
        archive.display(),
        offline.display(),
        made().join("six.asc").display()
    );
    change(&image, &from, &to);
    change(&image, SMALL, &format!("{SMALL}, \"{NAME}\""));
    succeed(&mut command_test(image.path(), "build"));
    let manifest = crate::images::manifest(&image.path().join("test"));
    assert!(manifest["packages"].as_array().unwrap().iter().any(|package| package["name"] == NAME), "{manifest}");

    // sq signs by a subkey. The id of a key of version 6 is the beginning of its fingerprint, and its end names the directory.
    let directory = archive.join(&key("six").subkeys[0].to_string()[8..16]);
    fs::create_dir_all(&directory).unwrap();
    fs::rename(second.join("Packages").join(FILE), directory.join(FILE)).unwrap();
    fs::remove_dir_all(image.path().join(CACHE)).unwrap();
    assert!(succeed(&mut command_test(image.path(), "fetch")).contains("all verified"));
}
