//! Unified kernel images with the stubs of old systemds.

use std::fs;

use crate::distribution::old_stubs_container;
use crate::fixture::{fail, stderr, succeed};
use crate::uki::{bench, boot, build, uki};

/// A bench with the stub of that version.
fn bench_with(version: &str) -> tempfile::TempDir {
    let place = bench();
    let copy = ["cp", &format!("/stubs/{version}"), "/images/linuxx64.efi.stub"];
    succeed(&mut old_stubs_container(&[(place.path(), "/images")]).run(&copy));
    place
}

#[test]
fn the_stub_of_systemd_252_is_refused_with_the_version_that_is_not() {
    let place = bench_with("252");
    let error = fail(&mut build(place.path(), "a.efi"));
    let expected = "linuxx64.efi.stub: it is of systemd 252: take one of systemd 254 or later";
    assert!(error.contains(expected) && !place.path().join("a.efi").exists(), "{error}");
}

#[test]
fn the_stub_of_systemd_254_measures_what_was_predicted_and_is_given_nothing_that_it_passes_over() {
    let place = bench_with("254");
    let file = |name: &str| place.path().join(name);
    fs::write(file("microcode"), "070701 updates").unwrap();
    let error = fail(build(place.path(), "a.efi").arg("--microcode").arg(file("microcode")));
    assert!(
        error.contains("it is of systemd 254, which passes over .ucode: take one of systemd 256 or later"),
        "{error}"
    );
    let error = fail(build(place.path(), "a.efi").args(["--boot-profile", "one=One"]));
    assert!(error.contains("it is of systemd 254, which passes over .profile: take one of systemd 257"), "{error}");

    succeed(&mut build(place.path(), "a.efi"));
    let verified = uki("verify").arg(file("a.efi")).output().unwrap();
    assert!(verified.status.success() && !stderr(&verified).contains("warning"), "{}", stderr(&verified));
    succeed(&mut boot(&file("a.efi"), "measured"));
}
