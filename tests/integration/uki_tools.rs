//! What systemd's own tools say of our unified kernel images, and ours of those that ukify makes: of systemd 257, and of the newest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::distribution::Distribution;
use crate::fixture::{fail, ocinitrd, offline_output, succeed};
use crate::uki::{bench, build, certificate, inspected, uki};

/// The options of systemd-measure that name a section's contents are called as the section is.
const MEASURED: [&str; 6] = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"];
/// What both are told to put in, in the directory `{}`.
const PARTS: [&str; 5] = [
    "--linux={}/vmlinuz",
    "--initrd={}/initrd",
    "--stub={}/linuxx64.efi.stub",
    "--os-release=@{}/os-release",
    "--cmdline=root=LABEL=root rw",
];

/// Runs a program of the distribution with `place` as /images.
fn run(distribution: Distribution, place: &Path, words: &[&str]) -> String {
    succeed(&mut distribution.container(&[(place, "/images")]).run(words))
}

/// The same of a program that prints JSON.
fn json(distribution: Distribution, place: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&run(distribution, place, words)).unwrap()
}

/// Name, size and digest of each section that belongs to no boot profile.
fn sections(image: &Value) -> impl Iterator<Item = (&str, u64, &str)> {
    let own = image["sections"].as_array().unwrap().iter().filter(|section| section["profile"].is_null());
    own.map(|section| {
        let digest = section["sha256"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        (section["name"].as_str().unwrap(), section["size_bytes"].as_u64().unwrap(), digest)
    })
}

/// ukify lists each section of the image, with the size and the digest that ours tells.
fn assert_inspected_alike(distribution: Distribution, place: &Path, image: &Value, name: &str) {
    let of_ukify = json(distribution, place, &["ukify", "inspect", name, "--json=short"]);
    for section in MEASURED {
        let (_, size, digest) = sections(image).find(|(name, ..)| *name == section).unwrap();
        assert_eq!(of_ukify[section]["sha256"], digest, "{section} of {name}: {of_ukify:#}");
        assert_eq!(of_ukify[section]["size"], size, "{section} of {name}: {of_ukify:#}");
    }
}

/// The sections' contents as files for systemd-measure.
fn extract(place: &Path, image: &Value, name: &str) {
    for (section, size, _) in sections(image).filter(|(name, ..)| MEASURED.contains(name)) {
        let file = place.join(format!("section{section}"));
        let mut copy = Command::new("objcopy");
        succeed(copy.args(["-O", "binary", "--only-section", section]).arg(place.join(name)).arg(&file));
        assert_eq!(fs::metadata(&file).unwrap().len(), size, "{section}");
    }
}

/// systemd-measure calculates for each phase, from the parts, what `uki inspect` says.
fn assert_measured_alike(distribution: Distribution, place: &Path, values: &Value) {
    let values = values["sha256"].as_array().unwrap();
    assert_eq!(values.len(), 7, "{values:#?}");
    let mut words =
        ["/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short"].map(str::to_owned).to_vec();
    words.extend(MEASURED.iter().map(|section| format!("--{}=/images/section{section}", &section[1..])));
    words.extend(values.iter().map(|value| format!("--phase={}", value["phase"].as_str().unwrap())));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let calculated = json(distribution, place, &words);
    let calculated = calculated["sha256"].as_array().unwrap();
    assert_eq!(calculated.len(), values.len(), "{calculated:#?}");
    for (theirs, ours) in calculated.iter().zip(values) {
        assert_eq!(
            (theirs["phase"].as_str().unwrap_or(""), &theirs["hash"]),
            (ours["phase"].as_str().unwrap(), &ours["pcr11"])
        );
    }
}

fn the_tools_of_systemd_agree_on_an_image(distribution: Distribution) {
    let place = bench();
    succeed(&mut build(place.path(), "a.efi"));
    let image = inspected(&place.path().join("a.efi"));
    assert_inspected_alike(distribution, place.path(), &image, "/images/a.efi");
    let dumped = run(distribution, place.path(), &["objdump", "-h", "/images/a.efi"]);
    for (name, size, _) in sections(&image).filter(|(name, ..)| *name != ".reloc") {
        assert!(dumped.contains(&format!(" {name:<13} {size:08x} ")), "{name} {size:x}: {dumped}");
    }
    certificate(place.path(), "own", "1");
    certificate(place.path(), "other", "1");
    let key = |option: &str, name: &str| format!("{option}={}", place.path().join(name).display());
    let (key, certificate) = (key("--secureboot-private-key", "own.key"), key("--secureboot-certificate", "own.crt"));
    succeed(
        uki("sign")
            .arg(place.path().join("a.efi"))
            .args([key, certificate])
            .arg("-o")
            .arg(place.path().join("signed.efi")),
    );
    run(distribution, place.path(), &["sbverify", "--cert", "/images/own.crt", "/images/signed.efi"]);
    let other = distribution.container(&[(place.path(), "/images")]);
    fail(&mut other.run(&["sbverify", "--cert", "/images/other.crt", "/images/signed.efi"]));
    extract(place.path(), &image, "a.efi");
    assert_measured_alike(distribution, place.path(), &image["pcr11"][0]["values"]);
}

#[test]
fn the_tools_of_systemd_257_agree_on_an_image() {
    the_tools_of_systemd_agree_on_an_image(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn the_tools_of_the_newest_systemd_agree_on_an_image() {
    the_tools_of_systemd_agree_on_an_image(Distribution::Sid);
}

/// Makes an image with two boot profiles of the parts, signed, by ukify; returns what it printed, the values of four phases of each profile.
fn build_by_ukify(distribution: Distribution, place: &Path) -> String {
    fs::write(place.join("usual"), "ID=usual\nTITLE=As usual\n").unwrap();
    fs::write(place.join("rescue"), "ID=rescue\nTITLE=Rescue\n").unwrap();
    let rescue = ["--profile=@/images/rescue", "--cmdline=systemd.unit=rescue.target", "--output=/images/rescue.efi"];
    run(distribution, place, &[&["ukify", "build"][..], &rescue].concat());
    let parts = PARTS.map(|part| part.replace("{}", "/images"));
    let mut words = vec!["ukify", "build", "--measure", "--pcr-banks=sha256", "--output=/images/theirs.efi"];
    words.extend(["--profile=@/images/usual", "--join-profile=/images/rescue.efi"]);
    words.extend(["--pcr-private-key=/images/pcr.key", "--pcr-public-key=/images/pcr.pub"]);
    words.extend(parts.iter().map(String::as_str));
    run(distribution, place, &words)
}

/// Makes the same by ours.
fn build_by_ours(place: &Path) {
    let mut command = uki("build");
    command.args(PARTS.map(|part| part.replace("{}", place.to_str().unwrap())));
    command.args(["--boot-profile", "usual=As usual", "--boot-profile", "rescue=Rescue=systemd.unit=rescue.target"]);
    command.arg("--pcr-private-key").arg(place.join("pcr.key")).arg("-o").arg(place.join("ours.efi"));
    succeed(&mut command);
}

fn an_image_of_ukify_is_read_and_ours_of_the_same_parts_is_the_same(distribution: Distribution) {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    for name in ["vmlinuz", "initrd"] {
        fs::copy(offline_output().join(name), file(name)).unwrap();
    }
    let printed = build_by_ukify(distribution, place.path());
    let theirs = inspected(&file("theirs.efi"));
    succeed(uki("verify").arg(file("theirs.efi")));
    let profiles = theirs["pcr11"].as_array().unwrap();
    assert_eq!(profiles.iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), ["usual", "rescue"]);
    assert!(profiles.iter().all(|profile| profile["signatures"] == 4), "{profiles:#?}");
    let values = profiles.iter().flat_map(|profile| {
        let values = profile["values"]["sha256"].as_array().unwrap();
        // ukify neither measures the kernel alone nor the phases of a shutdown.
        values[1..5].iter().map(|value| value["pcr11"].as_str().unwrap())
    });
    let measured: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("11:sha256=")).collect();
    assert_eq!(measured, values.collect::<Vec<_>>(), "{printed}");

    build_by_ours(place.path());
    let ours = inspected(&file("ours.efi"));
    // Each writes signatures in its own form, and .sbat of the newest ends without a newline.
    let differ: &[&str] = match distribution {
        Distribution::Trixie => &[".pcrsig"],
        Distribution::Sid => &[".sbat", ".pcrsig"],
    };
    for section in ours["sections"].as_array().unwrap() {
        let is_like = |other: &&Value| other["name"] == section["name"] && other["profile"] == section["profile"];
        let other =
            theirs["sections"].as_array().unwrap().iter().find(is_like).expect("ukify writes the same sections");
        if !differ.contains(&section["name"].as_str().unwrap()) {
            assert_eq!(
                (&other["sha256"], &other["size_bytes"]),
                (&section["sha256"], &section["size_bytes"]),
                "{section:#}"
            );
        }
        let text = |section: &Value| section["text"].as_str().map(|text| text.trim_end().to_owned());
        assert!(section["name"] == ".pcrsig" || text(other) == text(section), "{other:#}{section:#}");
    }
}

#[test]
fn an_image_of_ukify_257_is_read_and_ours_of_the_same_parts_is_the_same() {
    an_image_of_ukify_is_read_and_ours_of_the_same_parts_is_the_same(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn an_image_of_the_newest_ukify_is_read_and_ours_of_the_same_parts_is_the_same() {
    an_image_of_ukify_is_read_and_ours_of_the_same_parts_is_the_same(Distribution::Sid);
}

/// Signs with keys in files, and with one in a token, whose PIN no error shows. Without the file `$WITHOUT`, and without sbverify for
/// us, since not every host has it.
const SIGN: &str = r#"
set -eu
cd /images
mv /usr/bin/sbverify /usr/bin/verify-elsewhere
sign() {
    key=$1
    shift
    ocinitrd uki sign a.efi -o signed.efi --secureboot-private-key "$key" --secureboot-certificate own.crt "$@"
}
succeeds() { sign "$@" && verify-elsewhere --cert own.crt signed.efi && rm signed.efi; }
fails() {
    text=$1
    shift
    if sign "$@" 2>error || [ -e signed.efi ]; then exit 1; fi
    cat error
    grep -q "$text" error
    if grep -q 1234 error; then exit 1; fi
}
succeeds own.key --signtool=systemd-sbsign
fails 'other.key is not the key of the certificate own.crt' other.key --signtool=systemd-sbsign

mkdir /tmp/tokens
printf 'directories.tokendir = /tmp/tokens\nobjectstore.backend = file\n' >/tmp/softhsm2.conf
export SOFTHSM2_CONF=/tmp/softhsm2.conf PKCS11_MODULE_PATH=/usr/lib/softhsm/libsofthsm2.so
softhsm2-util --init-token --free --label=test --pin=1234 --so-pin=1234
softhsm2-util --import own.key --token=test --label=boot --id=01 --pin=1234
key() { echo "pkcs11:token=test;object=$1;type=private?pin-value=1234"; }
for file in $WITHOUT; do mv "$file" "$file.hidden"; done
succeeds "$(key boot)" $OPTIONS
fails "$SAYS" "$(key other)" $OPTIONS
"#;

fn systemd_sbsign_signs_with_a_key_wherever_it_is(distribution: Distribution) {
    let place = bench();
    succeed(&mut build(place.path(), "a.efi"));
    certificate(place.path(), "own", "1");
    certificate(place.path(), "other", "1");
    let program = PathBuf::from(ocinitrd().get_program());
    let engine = "/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so";
    let provider = "/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so";
    for (without, options, says) in [
        ("", "", "signing through OpenSSL's provider pkcs11, by systemd-sbsign"),
        // That it is not sbsign's to do, which knows engines alone, nobody has to say.
        (engine, "", "signing through OpenSSL's provider pkcs11, by systemd-sbsign"),
        (
            provider,
            "--signtool=systemd-sbsign",
            "signing through OpenSSL's engine pkcs11, by systemd-sbsign; newer systems",
        ),
    ] {
        let container = distribution.container(&[(place.path(), "/images"), (&program, "/usr/bin/ocinitrd:ro")]);
        let container = container.env("WITHOUT", without).env("OPTIONS", options).env("SAYS", says);
        succeed(&mut container.run(&["bash", "-c", SIGN]));
    }
}

#[test]
fn systemd_sbsign_257_signs_with_a_key_wherever_it_is() {
    systemd_sbsign_signs_with_a_key_wherever_it_is(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn the_newest_systemd_sbsign_signs_with_a_key_wherever_it_is() {
    systemd_sbsign_signs_with_a_key_wherever_it_is(Distribution::Sid);
}
