//! Unified kernel images of the real result, with the stub of the offline repository, beside the tools that others use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{
    checkout, disk_maker_output, fail, fail_with, ocinitrd, offline_directory, offline_output, sha256, stderr, stdout,
    succeed, variant_definition,
};

/// A directory with the stub, an os-release and a key.
pub fn bench() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let packages = fs::read_dir(offline_directory().join("repo/Packages")).unwrap();
    let mut stubs =
        packages.map(|entry| entry.unwrap().path()).filter(|path| name(path).starts_with("systemd-boot-unsigned-"));
    let package = stubs.next().expect("the offline repository has systemd-boot-unsigned");
    let file = "./usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    succeed(
        Command::new("bsdtar").arg("-xf").arg(package).arg("-C").arg(place.path()).args(["--strip-components=6", file]),
    );
    fs::write(place.path().join("os-release"), "ID=test\nPRETTY_NAME=\"Test Linux\"\nVERSION_ID=1\n").unwrap();
    succeed(Command::new("openssl").args(["genrsa", "-out"]).arg(place.path().join("pcr.key")).arg("2048"));
    let mut public = Command::new("openssl");
    public
        .args(["rsa", "-pubout", "-in"])
        .arg(place.path().join("pcr.key"))
        .arg("-out")
        .arg(place.path().join("pcr.pub"));
    succeed(&mut public);
    place
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

pub fn uki(action: &str) -> Command {
    let mut command = ocinitrd();
    command.args(["uki", action]);
    command
}

/// `uki build` of the offline output.
pub fn build(place: &Path, output: &str) -> Command {
    build_with(place, output, "root=LABEL=root rw")
}

fn build_with(place: &Path, output: &str, command_line: &str) -> Command {
    build_of(place, &offline_output().join("vmlinuz"), output, command_line)
}

fn build_of(place: &Path, kernel: &Path, output: &str, command_line: &str) -> Command {
    let mut command = uki("build");
    command.arg("--linux").arg(kernel).arg("--initrd").arg(offline_output().join("initrd"));
    command.arg("--stub").arg(place.join("linuxx64.efi.stub")).args(["--cmdline", command_line]);
    command.arg("--os-release").arg(format!("@{}", place.join("os-release").display()));
    command.arg("-o").arg(place.join(output));
    command
}

pub fn inspected(file: &Path) -> Value {
    serde_json::from_str(&succeed(uki("inspect").arg("--json").arg(file))).unwrap()
}

/// The first section of that name of an image that was [`inspected`].
pub fn section<'a>(image: &'a Value, name: &str) -> &'a Value {
    let mut sections = image["sections"].as_array().unwrap().iter();
    sections.find(|section| section["name"] == name).unwrap_or_else(|| panic!("no section {name}"))
}

#[test]
fn an_image_holds_its_parts_and_is_the_same_each_time() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    succeed(build(place.path(), "a.efi").env("TZ", "Asia/Tokyo"));
    succeed(&mut build(place.path(), "b.efi"));
    assert!(fs::read(file("a.efi")).unwrap() == fs::read(file("b.efi")).unwrap());
    assert!(succeed(uki("verify").arg(file("a.efi"))).ends_with("a.efi: nothing is wrong\n"));
    let image = inspected(&file("a.efi"));
    assert_eq!((&image["machine"], &image["signed"]), (&"x64".into(), &false.into()));
    let section = |name: &str| section(&image, name);
    assert_eq!(section(".initrd")["sha256"], sha256(&offline_output().join("initrd")));
    assert_eq!(section(".cmdline")["text"], "root=LABEL=root rw");
    assert!(section(".osrel")["text"].as_str().unwrap().contains("PRETTY_NAME=\"Test Linux\""));
    let manifest: Value = serde_json::from_slice(&fs::read(offline_output().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(section(".uname")["text"], manifest["kernels"][0]["version"]);
    let sbat = section(".sbat")["text"].as_str().unwrap().to_owned();
    assert!(
        sbat.starts_with("sbat,1,") && sbat.contains("\nsystemd-stub,1,") && sbat.contains("\nuki,1,UKI,"),
        "{sbat}"
    );
    let kernel = offline_output().join("vmlinuz");
    assert_eq!(section(".linux")["size_bytes"], fs::metadata(&kernel).unwrap().len());
    assert_eq!(section(".linux")["sha256"], sha256(&kernel));
    // What others read of it.
    let dumped = succeed(Command::new("objdump").arg("-h").arg(file("a.efi")));
    for name in [".osrel", ".cmdline", ".uname", ".initrd", ".linux", ".sbat"] {
        assert!(dumped.contains(&format!(" {name} ")), "{dumped}");
    }
    let mut copy = Command::new("objcopy");
    copy.args(["-O", "binary", "--only-section=.initrd"]).arg(file("a.efi")).arg(file("initrd"));
    succeed(&mut copy);
    assert!(fs::read(file("initrd")).unwrap() == fs::read(offline_output().join("initrd")).unwrap());
}

#[test]
fn picture_device_tree_microcode_and_sbat_are_the_files_that_were_given() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    let parts = [
        ("--splash", ".splash", b"BM picture".as_slice()),
        ("--devicetree", ".dtb", b"\xd0\x0d\xfe\xed tree"),
        ("--microcode", ".ucode", b"070701 updates"),
    ];
    let mut command = build(place.path(), "a.efi");
    for (option, section, content) in parts {
        fs::write(file(section), content).unwrap();
        command.arg(option).arg(file(section));
    }
    succeed(
        command.args([
            "--sbat",
            "sbat,1,SBAT Version,sbat,1,https://example.org\nmine,1,Mine,mine,1,https://example.org\n",
        ]),
    );
    for (_, section, content) in parts {
        let mut copy = Command::new("objcopy");
        copy.args(["-O", "binary", &format!("--only-section={section}")]).arg(file("a.efi")).arg(file("copy"));
        succeed(&mut copy);
        assert_eq!(fs::read(file("copy")).unwrap(), content, "{section}");
    }
    let image = inspected(&file("a.efi"));
    let sbat = section(&image, ".sbat");
    assert!(sbat["text"].as_str().unwrap().contains("\nmine,1,Mine,"), "{sbat}");
    assert!(fail(build(place.path(), "a.efi").arg("--splash").arg(file("none"))).contains("none: No such file"));
}

#[test]
fn a_command_line_may_be_empty_and_is_refused_where_the_kernel_would_not_get_all_of_it() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    let command_line = |output: &str| {
        let image = inspected(&file(output));
        let sections = image["sections"].as_array().unwrap().clone();
        sections.into_iter().find(|section| section["name"] == ".cmdline").map(|section| section["text"].clone())
    };
    // None at all, so that nobody else gives it some, or none that it would be given.
    succeed(&mut build_with(place.path(), "empty.efi", ""));
    assert_eq!(command_line("empty.efi"), Some(" ".into()));
    let mut none = uki("build");
    none.arg("--linux").arg(offline_output().join("vmlinuz")).arg("--initrd").arg(offline_output().join("initrd"));
    none.arg("--stub").arg(file("linuxx64.efi.stub")).args(["--os-release", "", "-o"]).arg(file("none.efi"));
    succeed(&mut none);
    assert_eq!(command_line("none.efi"), None);
    succeed(&mut build_with(place.path(), "longest.efi", &"a".repeat(2047)));
    for name in ["empty.efi", "none.efi", "longest.efi"] {
        succeed(uki("verify").arg(file(name)));
    }

    fs::write(file("nul"), "rw\0init=/bin/sh\n").unwrap();
    let too_long = "a".repeat(2048);
    let profile = format!("one=One={too_long}");
    for (text, profile, expected) in [
        (format!("@{}", file("nul").display()).as_str(), "a=A", "the command line: it has a NUL as its byte 3"),
        (&too_long, "a=A", "the command line: it has 2048 bytes, and the kernel takes 2047"),
        ("rw", &profile, "the command line of the boot profile one: it has 2048 bytes"),
    ] {
        let error = fail(build_with(place.path(), "a.efi", text).args(["--boot-profile", profile]));
        assert!(error.contains(expected) && !file("a.efi").exists(), "{error}");
    }
}

/// The kernel as it lies in memory is the file, so that whoever checks its signature finds nothing behind it.
#[test]
fn a_signed_kernel_stays_so_in_the_image_and_in_memory() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    certificate(place.path(), "own", "1");
    sign_kernel(&file("own.key"), &file("own.crt"), &file("vmlinuz"));
    succeed(&mut build_of(place.path(), &file("vmlinuz"), "a.efi", "rw"));
    let verified = uki("verify").arg(file("a.efi")).output().unwrap();
    assert!(verified.status.success() && !stderr(&verified).contains("warning"), "{}", stderr(&verified));
    let mut copy = Command::new("objcopy");
    copy.args(["-O", "binary", "--only-section=.linux"]).arg(file("a.efi")).arg(file("copy"));
    succeed(&mut copy);
    assert!(fs::read(file("copy")).unwrap() == fs::read(file("vmlinuz")).unwrap());
    // Where the file ends what is in memory is zeros.
    let in_memory = section(&inspected(&file("a.efi")), ".linux")["size_bytes"].as_u64().unwrap();
    let verify = |size: u64| {
        fs::OpenOptions::new().write(true).open(file("copy")).unwrap().set_len(size).unwrap();
        let mut verify = Command::new("sbverify");
        verify.arg("--cert").arg(file("own.crt")).arg(file("copy")).output().unwrap().status.success()
    };
    assert!(verify(in_memory));
    assert!(!verify(in_memory + 4096), "zeros behind it make the signature false");
}

/// Signs the offline image's kernel by itself, as distributions do.
fn sign_kernel(key: &Path, certificate: &Path, signed: &Path) {
    let mut sign = Command::new("sbsign");
    sign.arg("--key").arg(key).arg("--cert").arg(certificate).arg("--output").arg(signed);
    succeed(sign.arg(offline_output().join("vmlinuz")));
}

#[test]
fn signatures_of_pcr_11_are_the_same_whether_the_key_is_here_or_elsewhere() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    succeed(build(place.path(), "signed.efi").arg("--pcr-private-key").arg(file("pcr.key")));
    succeed(build(place.path(), "unsigned.efi").arg("--pcrpkey").arg(file("pcr.pub")));
    let attach = || {
        let mut command = uki("attach");
        command.arg(file("unsigned.efi")).arg("--signature-dir").arg(place.path()).arg("-o").arg(file("attached.efi"));
        command
    };
    let error = fail(&mut attach());
    assert!(
        error.contains("the signature for the phase enter-initrd: reading ") && !file("attached.efi").exists(),
        "{error}"
    );
    let digests = succeed(uki("policy-digest").arg(file("unsigned.efi")));
    assert_eq!(digests.lines().count(), 4, "{digests}");
    for line in digests.lines() {
        let digest = line.split(' ').nth(2).unwrap();
        let bytes: Vec<u8> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&digest[at..at + 2], 16).unwrap()).collect();
        fs::write(file("digest"), bytes).unwrap();
        let mut sign = Command::new("openssl");
        sign.args(["dgst", "-sha256", "-sign"]).arg(file("pcr.key")).arg("-out").arg(file(&format!("{digest}.sig")));
        succeed(sign.arg(file("digest")));
    }
    succeed(&mut attach());
    assert!(fs::read(file("attached.efi")).unwrap() == fs::read(file("signed.efi")).unwrap());
    assert_eq!(inspected(&file("signed.efi"))["pcr11"][0]["signatures"], 4);
    // A signature by another key, and an image that is not the one that was signed for.
    let first = digests.lines().next().unwrap().split(' ').nth(2).unwrap();
    fs::write(file(&format!("{first}.sig")), vec![1; 256]).unwrap();
    let error = fail(&mut attach());
    assert!(error.contains("the signature for the phase enter-initrd in sha256 is not one by .pcrpkey"), "{error}");
    let mut bytes = fs::read(file("signed.efi")).unwrap();
    let at = bytes.windows(9).position(|window| window == b"root=LABE").unwrap();
    bytes[at] ^= 0x20;
    fs::write(file("tampered.efi"), bytes).unwrap();
    let error = fail(uki("verify").arg(file("tampered.efi")));
    assert!(error.contains(".pcrsig has no signature for the phase enter-initrd in sha256"), "{error}");
}

#[test]
fn each_boot_profile_has_its_own_command_line_and_values() {
    let place = bench();
    let mut command = build(place.path(), "a.efi");
    command.args(["--boot-profile", "usual=As usual", "--boot-profile", "rescue=Rescue=systemd.unit=rescue.target"]);
    succeed(command.arg("--pcr-private-key").arg(place.path().join("pcr.key")));
    let image = inspected(&place.path().join("a.efi"));
    let profiles = image["pcr11"].as_array().unwrap();
    assert_eq!(profiles.iter().map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), ["usual", "rescue"]);
    assert_ne!(profiles[0]["values"], profiles[1]["values"]);
    assert!(profiles.iter().all(|profile| profile["signatures"] == 4), "{profiles:#?}");
    let sections = image["sections"].as_array().unwrap();
    let of_rescue = sections.iter().filter(|section| section["profile"] == 1);
    let names: Vec<&str> = of_rescue.map(|section| section["name"].as_str().unwrap()).collect();
    assert_eq!(names, [".profile", ".cmdline", ".pcrsig"]);
}

#[test]
fn what_cannot_become_an_image_is_refused_and_what_was_there_stays() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    fs::write(file("a.efi"), "the old one").unwrap();
    fs::write(file("text"), "no kernel").unwrap();
    let stub = fs::read(file("linuxx64.efi.stub")).unwrap();
    fs::write(file("cut.stub"), &stub[..stub.len() / 2]).unwrap();
    let huge = fs::File::create(file("huge")).unwrap();
    huge.set_len((4 << 30) + 1).unwrap();
    let replaced = |option: &str, value: &Path| {
        let mut command = uki("build");
        command.args(["--cmdline", "rw", "-o"]).arg(file("a.efi"));
        let usual = [
            ("--linux", offline_output().join("vmlinuz")),
            ("--initrd", offline_output().join("initrd")),
            ("--stub", file("linuxx64.efi.stub")),
        ];
        for (name, path) in usual.iter().filter(|(name, _)| *name != option) {
            command.arg(name).arg(path);
        }
        command.arg(option).arg(value);
        let error = fail(&mut command);
        assert_eq!(fs::read_to_string(file("a.efi")).unwrap(), "the old one", "{error}");
        error
    };
    let error = replaced("--linux", &file("text"));
    assert!(error.contains("text: a unified kernel image takes a kernel that is an EFI program"), "{error}");
    assert!(replaced("--linux", &file("none")).contains("reading the kernel ") && !file("none").exists());
    assert!(replaced("--stub", &file("cut.stub")).contains("it is cut off"));
    assert!(replaced("--stub", &file("text")).contains("reading the stub "));
    assert!(replaced("--initrd", &file("huge")).contains("the .initrd section would end beyond 4 GiB"));
    assert!(replaced("--uname", Path::new("1.2.3")).contains(", and not 1.2.3"));
    assert!(replaced("--pcr-private-key", &file("pcr.pub")).contains("no BEGIN PRIVATE KEY"));
    let output = build(place.path(), "bare.efi").output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("PCR 11, sha256:\n  kernel "));
    assert!(fail(uki("inspect").arg(file("text"))).contains("it is no EFI program"));
    assert!(fail(uki("verify").arg(file("linuxx64.efi.stub"))).contains("it is no unified kernel image"));
}

/// A key and a certificate of it that is valid for so many days.
pub fn certificate(place: &Path, name: &str, days: &str) {
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", days]);
    command.arg("-keyout").arg(place.join(format!("{name}.key"))).arg("-out").arg(place.join(format!("{name}.crt")));
    succeed(&mut command);
}

#[test]
fn what_is_signed_for_secure_boot_is_signed_by_the_key_of_the_certificate() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    certificate(place.path(), "own", "1");
    certificate(place.path(), "other", "1");
    succeed(&mut build(place.path(), "a.efi"));
    let sign = |image: &str, key: &str, certificate: &str| {
        let mut command = uki("sign");
        command.arg(file(image)).arg("--secureboot-private-key").arg(file(key));
        command.arg("--secureboot-certificate").arg(file(certificate)).arg("-o").arg(file("signed.efi"));
        command
    };
    for (key, certificate) in
        [("other.key", "own.crt"), ("none.key", "own.crt"), ("own.key", "none.crt"), ("own.key", "own.key")]
    {
        let error = fail(&mut sign("a.efi", key, certificate));
        assert!(!file("signed.efi").exists() && error.contains(&name(place.path())), "{key} {certificate}: {error}");
    }
    let mut expired = Command::new("faketime");
    expired.args(["2020-01-01", "openssl", "req", "-new", "-x509", "-key"]).arg(file("own.key"));
    succeed(expired.args(["-subj", "/CN=test", "-days", "1", "-out"]).arg(file("expired.crt")));
    let error = fail(&mut sign("a.efi", "own.key", "expired.crt"));
    assert!(error.contains("expired.crt has expired"), "{error}");
    succeed(&mut sign("a.efi", "own.key", "own.crt"));
    let image = inspected(&file("signed.efi"));
    assert_eq!((&image["signed"], &image["problems"]), (&true.into(), &serde_json::json!([])));
    let verify = |image: &str, certificate: &str| {
        Command::new("sbverify")
            .arg("--cert")
            .arg(file(certificate))
            .arg(file(image))
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify("signed.efi", "own.crt") && !verify("signed.efi", "other.crt"));
    let mut bytes = fs::read(file("signed.efi")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file("tampered.efi"), bytes).unwrap();
    assert!(!verify("tampered.efi", "own.crt"));
    assert!(fail(&mut sign("signed.efi", "own.key", "own.crt")).contains("signed.efi is signed already"));
    let mut attach = uki("attach");
    attach.arg(file("signed.efi")).arg("--signature-dir").arg(place.path()).arg("-o").arg(file("b.efi"));
    assert!(fail(&mut attach).contains("has no .pcrpkey"), "what is signed takes nothing more");
}

/// The key in a token that lies in a directory.
#[test]
fn a_key_in_a_token_signs_by_its_uri() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    certificate(place.path(), "own", "1");
    fs::create_dir(file("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}\nobjectstore.backend = file\n", file("tokens").display());
    fs::write(file("softhsm2.conf"), configuration).unwrap();
    let token = |words: &[&str]| {
        let mut command = Command::new("softhsm2-util");
        succeed(command.env("SOFTHSM2_CONF", file("softhsm2.conf")).args(words));
    };
    token(&["--init-token", "--free", "--label=test", "--pin=1234", "--so-pin=1234"]);
    let key = file("own.key");
    token(&["--import", key.to_str().unwrap(), "--token=test", "--label=boot", "--id=01", "--pin=1234"]);
    fs::remove_file(key).unwrap();
    succeed(&mut build(place.path(), "a.efi"));
    let sign = |object: &str| {
        let mut command = uki("sign");
        command.arg(file("a.efi")).arg("-o").arg(file("signed.efi"));
        let uri = format!("pkcs11:token=test;object={object};type=private?pin-value=1234");
        command.args(["--secureboot-private-key", &uri, "--secureboot-certificate"]).arg(file("own.crt"));
        // Distributions keep the module in different places.
        let places = ["/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/lib64/pkcs11"];
        let module = places.iter().map(|place| Path::new(place).join("libsofthsm2.so")).find(|path| path.exists());
        command.env("PKCS11_MODULE_PATH", module.expect("softhsm2 has its module"));
        command.env("SOFTHSM2_CONF", file("softhsm2.conf"));
        command
    };
    let error = fail(&mut sign("other"));
    assert!(error.contains("signing through OpenSSL's ") && !error.contains("1234"), "{error}");
    assert!(!file("signed.efi").exists());
    succeed(&mut sign("boot"));
    succeed(Command::new("sbverify").arg("--cert").arg(file("own.crt")).arg(file("signed.efi")));
}

#[test]
fn a_build_of_the_format_uki_joins_what_the_lock_names_and_needs_no_container_the_next_time() {
    let place = bench();
    let image = variant_definition(
        "uki",
        "[uki]\ncmdline = \"root=LABEL=root rw\"\npcrpkey = \"pcr.pub\"\nsbat = [\"mine,1,Me,mine,1,x\"]",
    );
    fs::copy(place.path().join("pcr.pub"), image.with_file_name("pcr.pub")).unwrap();
    let output = image.with_file_name("out");
    let build = |arguments: &[&str]| {
        let mut command = ocinitrd();
        command.arg("build").arg(&image).arg("-O").arg(&output).args(arguments);
        command
    };
    succeed(&mut build(&["-t", "cpio,uki"]));
    let written = || inspected(&output.join("uki.efi"));
    let text = |image: &Value, name: &str| section(image, name)["text"].as_str().unwrap().to_owned();
    let image_of = |name: &str| output.join(name);
    let built = written();
    assert_eq!(text(&built, ".cmdline"), "root=LABEL=root rw");
    assert!(text(&built, ".osrel").contains("ID=offline\n") && text(&built, ".sbat").contains("mine,1,Me"));
    assert_eq!(text(&built, ".pcrpkey").trim(), fs::read_to_string(place.path().join("pcr.pub")).unwrap().trim());
    let initrd = section(&built, ".initrd");
    assert_eq!(initrd["sha256"], sha256(&image_of("initrd")));
    let manifest = || -> Value { serde_json::from_slice(&fs::read(image_of("manifest.json")).unwrap()).unwrap() };
    assert_eq!(manifest()["kernels"][0]["uki"]["pcr11"], built["pcr11"][0]["values"]);
    succeed(ocinitrd().arg("verify").arg(&output));

    // No engine answers there: whoever asks for one fails. The kernel's options are no input of the initrd.
    let engine = ["--engine", "unix:///nonexistent/podman.sock"];
    let digest = sha256(&image_of("uki.efi"));
    succeed(build(&["-t", "uki", "--cmdline", "quiet"]).args(engine));
    assert_eq!(
        (text(&written(), ".cmdline"), &manifest()["options"]["cmdline"]),
        ("quiet".to_owned(), &"quiet".into())
    );
    assert_ne!(sha256(&image_of("uki.efi")), digest);
    succeed(build(&["-t", "uki"]).args(engine));
    assert_eq!(sha256(&image_of("uki.efi")), digest);
    assert!(stderr(&build(&["-t", "uki"]).args(engine).output().unwrap()).contains("nothing changed"));
}

#[test]
fn an_image_without_a_stub_cannot_be_joined_and_the_package_is_named() {
    let image = variant_definition("no-stub", "");
    let text = fs::read_to_string(checkout().join("images/offline.toml")).unwrap();
    let text = text.replace(", \"systemd-boot-unsigned\"", "").replace("\"parts/", "\"../../../images/parts/");
    fs::write(&image, text.replace("\"../target/", "\"../../")).unwrap();
    let output = image.with_file_name("out");
    let error = fail(ocinitrd().arg("build").arg(&image).args(["-t", "uki", "-O"]).arg(&output));
    assert!(error.contains("add systemd-boot-unsigned to [packages] install"), "{error}");
    assert!(!output.exists());
}

/// `boot` of an image with the disks of the offline one.
pub fn boot(image: &Path, roots: &str) -> Command {
    let mut command = ocinitrd();
    command.arg("boot").arg(format!("--uki={}", image.display())).arg("--disks-by").arg(disk_maker_output());
    command.arg("--log-dir").arg(image.with_extension("log")).args(["--root", roots, "--timeout", "600"]);
    command
}

#[test]
fn an_image_boots_by_uefi_and_a_tpm_measures_what_was_predicted_and_opens_what_its_key_signed() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    let key = file("pcr.key");
    // Whatever the scenario says of its root, or nothing.
    let image = |name: &str| build_with(place.path(), name, "");
    succeed(image("signed.efi").arg("--pcr-private-key").arg(&key));
    succeed(&mut boot(&file("signed.efi"), "plain,gpt-auto,measured,luks-signed-policy"));
    // As after an update: the volume knows nothing of this one but who signed it.
    succeed(image("update.efi").args(["--sbat", "other,1,Other,other,1,x"]).arg("--pcr-private-key").arg(&key));
    succeed(&mut boot(&file("update.efi"), "luks-signed-policy"));
    // Neither the key's word nor anybody's: the volume asks for its passphrase.
    succeed(image("unsigned.efi").arg("--pcrpkey").arg(file("pcr.pub")));
    let mut unsigned = boot(&file("unsigned.efi"), "luks-signed-policy");
    let error = fail_with(1, unsigned.args(["--append", "rd.luks.options=tpm2-device=auto,headless=1"]));
    assert!(error.contains("luks1"), "{error}");
}

/// The variables of a firmware that takes signatures of one key, and that key with its certificate.
fn enrolled(place: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let (key, snakeoil) = (place.join("sb.key"), Path::new("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"));
    if snakeoil.exists() {
        // Debian ships such variables for tests, and the key.
        let mut openssl = Command::new("openssl");
        openssl.args(["rsa", "-in", "/usr/share/ovmf/PkKek-1-snakeoil.key", "-passin", "pass:snakeoil", "-out"]);
        succeed(openssl.arg(&key));
        return (snakeoil.to_owned(), key, "/usr/share/ovmf/PkKek-1-snakeoil.pem".into());
    }
    certificate(place, "sb", "30");
    let (certificate, variables) = (place.join("sb.crt"), place.join("variables.fd"));
    let mut enroll = Command::new("virt-fw-vars");
    enroll.args(["--secure-boot", "-i", "/usr/share/edk2/ovmf/OVMF_VARS.fd", "-o"]).arg(&variables);
    for option in ["--set-pk", "--add-kek", "--add-db"] {
        enroll.args([option, "0c1d2d00-5b5b-4000-8000-000000000001"]).arg(&certificate);
    }
    succeed(&mut enroll);
    (variables, key, certificate)
}

#[test]
fn secure_boot_starts_what_is_signed_and_neither_what_is_not_nor_what_was_changed() {
    let place = bench();
    let file = |name: &str| place.path().join(name);
    let (variables, key, certificate) = enrolled(place.path());
    sign_kernel(&key, &certificate, &file("vmlinuz"));
    succeed(&mut build_of(place.path(), &file("vmlinuz"), "plain.efi", "root=LABEL=root rw"));
    let mut sign = uki("sign");
    sign.arg(file("plain.efi"))
        .arg("--secureboot-private-key")
        .arg(key)
        .arg("--secureboot-certificate")
        .arg(certificate);
    succeed(sign.arg("-o").arg(file("signed.efi")));
    let secure = |name: &str| {
        let mut command = boot(&file(name), "plain");
        command.arg("--secure-boot").arg(&variables);
        command
    };
    succeed(&mut secure("signed.efi"));
    let console = fs::read_to_string(file("signed.log").join("ext4-uuid.log")).unwrap();
    assert!(console.contains("secureboot: Secure boot enabled"), "{console}");

    let mut bytes = fs::read(file("signed.efi")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file("changed.efi"), bytes).unwrap();
    for name in ["plain.efi", "changed.efi"] {
        let error = fail(&mut secure(name));
        assert!(error.contains("Access Denied"), "{name}: {error}");
    }
}
