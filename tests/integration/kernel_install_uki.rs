//! Unified kernel images that the plugins of kernel-install(8) make: their parts, and who signs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{fail, names, ocinitrd, sha256, stderr, succeed};
use crate::host_machine::{Machine, TOKEN};
use crate::uki::{certificate, section};

/// A machine with an initrd that is staged.
fn staged() -> (Machine, PathBuf) {
    let machine = Machine::running();
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("initrd"), "somebody's").unwrap();
    (machine, staging)
}

/// A machine with an initrd that is staged, a picture, a device tree, and keys for PCR 11 and for Secure Boot.
fn staged_with_keys() -> (Machine, PathBuf) {
    let (machine, staging) = staged();
    machine.write("etc/ocinitrd/logo.bmp", "picture");
    machine.write("etc/kernel/devicetree", "vendor/board.dtb\n");
    machine.write(&format!("usr/lib/modules/{}/dtb/vendor/board.dtb", machine.kernel), "tree");
    certificate(&machine.path("etc/ocinitrd"), "own", "30");
    certificate(&machine.path("etc/ocinitrd"), "pcr", "30");
    machine.write("etc/ocinitrd/uki.toml", &format!("[uki]\n{MEASURED}{SIGNED}"));
    (machine, staging)
}

/// What is measured, and who signs that.
const MEASURED: &str = "splash = \"/etc/ocinitrd/logo.bmp\"\nsbat = [\"mine,1,Me,mine,1,x\"]\n\
                        pcr_private_key = \"/etc/ocinitrd/pcr.key\"\npcr_bank = [\"sha256\", \"sha384\"]\n";
/// Who signs for Secure Boot.
const SIGNED: &str =
    "secureboot_private_key = \"/etc/ocinitrd/own.key\"\nsecureboot_certificate = \"/etc/ocinitrd/own.crt\"\n";

fn inspected(image: &Path) -> Value {
    serde_json::from_str(&succeed(ocinitrd().args(["uki", "inspect", "--json"]).arg(image))).unwrap()
}

#[test]
fn it_has_the_machine_s_options_and_the_initrd_that_was_made() {
    let (machine, staging) = staged();
    succeed(&mut machine.plugin_for_uki("50-ocinitrd.install", &staging));
    succeed(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    let image = inspected(&staging.join("uki.efi"));
    let section = |name: &str| section(&image, name);
    assert_eq!(section(".cmdline")["text"], format!("root=LABEL=root rw systemd.machine_id={TOKEN}"));
    assert!(section(".osrel")["text"].as_str().unwrap().contains("PRETTY_NAME=Test"));
    assert_eq!(section(".uname")["text"], machine.kernel.as_str());
    assert_eq!(section(".initrd")["sha256"], sha256(&staging.join("initrd")));

    // Without an initrd it would not boot.
    fs::remove_file(staging.join("initrd")).unwrap();
    let error = fail(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    assert!(error.contains("there is no initrd for it"), "{error}");
    fs::write(staging.join("initrd"), "somebody's").unwrap();

    // Without a file that says them, the options are the running kernel's, and that is said.
    fs::remove_file(machine.path("etc/kernel/cmdline")).unwrap();
    machine.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda ro\n");
    let output = machine.plugin_for_uki("60-ocinitrd.install", &staging).output().unwrap();
    assert!(stderr(&output).contains("the options of the running kernel, root=/dev/vda ro"), "{}", stderr(&output));
}

#[test]
fn no_options_are_enough_and_such_as_the_kernel_would_not_get_are_refused() {
    let (machine, staging) = staged();
    let plugin = || machine.plugin_for_uki("60-ocinitrd.install", &staging);
    let options = || section(&inspected(&staging.join("uki.efi")), ".cmdline")["text"].as_str().unwrap().to_owned();
    let machine_id = format!("systemd.machine_id={TOKEN}");
    // The root of a machine that runs so is found by the type of its partition.
    fs::remove_file(machine.path("etc/kernel/cmdline")).unwrap();
    machine.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz\n");
    let output = plugin().output().unwrap();
    let told = "etc/kernel/cmdline: the image gets no options, as the running kernel has none";
    assert!(output.status.success() && stderr(&output).contains(told), "{}", stderr(&output));
    assert_eq!(options(), machine_id);
    fs::remove_file(staging.join("uki.efi")).unwrap();
    machine.write("etc/kernel/cmdline", "# none\n");
    let output = plugin().output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("etc/kernel/cmdline"), "{}", stderr(&output));
    assert_eq!(options(), machine_id);

    fs::remove_file(staging.join("uki.efi")).unwrap();
    let longest = 2047 - " ".len() - machine_id.len();
    for (text, expected) in [
        ("rw\0quiet\n".to_owned(), "the command line: it has a NUL as its byte 3"),
        ("a".repeat(longest + 1), "the command line: it has 2048 bytes, and the kernel takes 2047"),
    ] {
        machine.write("etc/kernel/cmdline", &text);
        let error = fail(&mut plugin());
        assert!(error.contains(expected) && !staging.join("uki.efi").exists(), "{error}");
    }
    machine.write("etc/kernel/cmdline", &"a".repeat(longest));
    succeed(&mut plugin());
    assert_eq!(options().len(), 2047);
}

#[test]
fn a_kernel_install_that_does_not_say_who_makes_images_is_understood_by_install_conf() {
    let (machine, staging) = staged();
    let plugin = |configuration: &str| {
        machine.write("etc/kernel/install.conf", configuration);
        let mut plugin = machine.plugin_for_uki("60-ocinitrd.install", &staging);
        plugin.env_remove("KERNEL_INSTALL_UKI_GENERATOR").env_remove("KERNEL_INSTALL_IMAGE_TYPE");
        plugin
    };
    // systemd 253 has a plugin for the image.
    for ours in ["layout=uki\nuki_generator=ocinitrd\n", "uki_generator=\"ocinitrd\" \n"] {
        succeed(&mut plugin(ours));
        assert_eq!(names(&staging), ["initrd", "uki.efi"]);
        fs::remove_file(staging.join("uki.efi")).unwrap();
    }
    for another_s in ["layout=uki\n", "layout=uki\nuki_generator=ukify\n#uki_generator=ocinitrd\n"] {
        succeed(&mut plugin(another_s));
        assert_eq!(names(&staging), ["initrd"]);
    }
}

#[test]
fn where_no_plugin_puts_images_into_their_place_none_is_made() {
    // That of systemd 252, which is real here, or would be where one is newer.
    let machine = Machine::running();
    let before = machine.boot_files();
    for configuration in
        ["initrd_generator=ocinitrd\n", "uki_generator=ocinitrd\n", "initrd_generator=dracut\nuki_generator=ocinitrd\n"]
    {
        machine.write("etc/kernel/install.conf", &format!("layout=uki\n{configuration}"));
        let output = machine.add();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{configuration}: {error}");
        assert!(error.contains("layout=uki takes the kernel-install of systemd 253 or newer"), "{error}");
        assert!(error.contains("say layout=bls, or update systemd"), "{error}");
        assert!(machine.boot_files() == before && names(&machine.path("tmp")).is_empty(), "{configuration}");
    }
}

#[test]
fn an_image_that_nobody_puts_into_its_place_is_no_success() {
    let (machine, staging) = staged();
    succeed(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    let error = fail(&mut machine.plugin_for_uki("99-ocinitrd.install", &staging));
    assert!(error.contains("the image that was made is not in ") && error.contains("/boot/EFI/Linux"), "{error}");
    // Its name is not looked at: it may count its boots, or be that of entry_name_format.
    machine.write("boot/EFI/Linux/other.efi", "another kernel's");
    fail(&mut machine.plugin_for_uki("99-ocinitrd.install", &staging));
    fs::copy(staging.join("uki.efi"), machine.path("boot/EFI/Linux/mine+3.efi")).unwrap();
    succeed(&mut machine.plugin_for_uki("99-ocinitrd.install", &staging));
}

#[test]
fn it_is_signed_as_the_configuration_says_and_is_what_uki_build_makes_of_its_parts() {
    let (machine, staging) = staged_with_keys();
    let image = staging.join("uki.efi");
    succeed(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    assert_eq!(names(&staging), ["initrd", "uki.efi"]);
    let own = machine.path("etc/ocinitrd/own.crt");
    succeed(Command::new("sbverify").arg("--cert").arg(&own).arg(&image));
    succeed(ocinitrd().args(["uki", "verify"]).arg(&image));
    assert_eq!(inspected(&image)["signed"], true);

    // Not signed for Secure Boot it is, byte for byte, what the command makes.
    machine.write("etc/ocinitrd/uki.toml", &format!("[uki]\n{MEASURED}"));
    succeed(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    let mut build = ocinitrd();
    build.args(["uki", "build", "--linux"]).arg(machine.image()).arg("--initrd").arg(staging.join("initrd"));
    build.arg("--stub").arg(machine.path("usr/lib/ocinitrd/bases/offline/linux.efi.stub"));
    build.args(["--cmdline", "root=LABEL=root rw systemd.machine_id=0c1d2d00000040008000000000000001"]);
    build.arg("--os-release").arg(format!("@{}", machine.path("etc/os-release").display()));
    build.args(["--uname", &machine.kernel, "--sbat", "mine,1,Me,mine,1,x"]);
    build.arg("--splash").arg(machine.path("etc/ocinitrd/logo.bmp"));
    build.arg("--devicetree").arg(machine.module_path("dtb/vendor/board.dtb"));
    build.arg("--pcr-private-key").arg(machine.path("etc/ocinitrd/pcr.key"));
    build.args(["--pcr-bank", "sha256", "--pcr-bank", "sha384"]);
    let by_command = machine.path("command.efi");
    succeed(build.arg("-o").arg(&by_command));
    assert!(fs::read(&image).unwrap() == fs::read(&by_command).unwrap(), "the images are not the same");
}

#[test]
fn what_it_cannot_be_made_or_signed_with_is_told_and_nothing_is_staged() {
    type Case<'a> = (&'a str, &'a dyn Fn(&Machine), &'a [&'a str]);
    let uki = |lines: &str| {
        let text = format!("[uki]\n{lines}");
        move |machine: &Machine| machine.write("etc/ocinitrd/uki.toml", &text)
    };
    let expired = |machine: &Machine| {
        let file = |name: &str| machine.path("etc/ocinitrd").join(name);
        let mut openssl = Command::new("faketime");
        openssl.args(["2020-01-01", "openssl", "req", "-new", "-x509", "-subj", "/CN=old", "-days", "30"]);
        succeed(openssl.arg("-key").arg(file("own.key")).arg("-out").arg(file("own.crt")));
    };
    let other = SIGNED.replace("own.key", "pcr.key");
    let half = "secureboot_certificate = \"/etc/ocinitrd/own.crt\"\n";
    let no_key = SIGNED.replace("own.key", "none.key");
    let no_pair = format!("{MEASURED}pcrpkey = \"/etc/ocinitrd/own.pub\"\n");
    let public = |machine: &Machine| {
        let file = |name: &str| machine.path("etc/ocinitrd").join(name);
        let mut openssl = Command::new("openssl");
        succeed(openssl.args(["pkey", "-pubout", "-in"]).arg(file("own.key")).arg("-out").arg(file("own.pub")));
    };
    let cases: &[Case<'_>] = &[
        ("expired", &expired, &["etc/ocinitrd/own.crt has expired"]),
        ("another key", &uki(&other), &["signing it for Secure Boot", "etc/ocinitrd/own.crt"]),
        ("no key", &uki(&no_key), &["signing it for Secure Boot", "etc/ocinitrd/none.key"]),
        ("no key named", &uki(half), &["secureboot_private_key and secureboot_certificate go together"]),
        ("no key for PCR 11", &uki("pcr_private_key = \"/none\"\n"), &["reading the key", "/none"]),
        (
            "no pair",
            &|machine| {
                public(machine);
                uki(&no_pair)(machine);
            },
            &["are no pair"],
        ),
        ("no picture", &uki("splash = \"/none\"\n"), &["reading [uki] splash", "/none"]),
        ("no word", &uki("cmdline = \"rw\"\n"), &["etc/ocinitrd/uki.toml", "unknown field `cmdline`"]),
        (
            "no tree",
            &|machine| machine.write("etc/kernel/devicetree", "none.dtb\n"),
            &["the device tree none.dtb", "/dtb"],
        ),
        ("tree not named", &|machine| machine.write("etc/kernel/devicetree", "\n"), &["names no device tree"]),
        (
            "no place",
            &|machine| fs::remove_dir_all(machine.path("boot")).unwrap(),
            &["looking for room in", "/boot, where boot entries are: mount it"],
        ),
    ];
    for (name, spoil, says) in cases {
        let (machine, staging) = staged_with_keys();
        spoil(&machine);
        let error = fail(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
        assert!(says.iter().all(|text| error.contains(text)), "{name}: {error}");
        assert_eq!(names(&staging), ["initrd"], "{name}");
    }
}

#[test]
fn it_is_refused_where_it_has_no_room_and_takes_that_of_the_one_it_replaces() {
    let (machine, staging) = staged();
    let plugin = || machine.plugin_for_uki("60-ocinitrd.install", &staging);
    let says = |megabytes: u64, is_read_only: bool, text: &str| {
        let output = machine.with_boot_of(megabytes, is_read_only, &plugin());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(text) && names(&staging) == ["initrd"], "{}", stderr(&output));
        fs::remove_dir_all(machine.path("kept")).unwrap();
    };
    fs::remove_dir_all(machine.path("boot")).unwrap();
    machine.write(&format!("boot/EFI/Linux/{TOKEN}-other.efi"), "another kernel's");
    says(4, false, "the unified kernel image takes");
    says(400, true, "is mounted read-only");
    // In the place of one that is as large it has room.
    let kernel_bytes = fs::metadata(machine.image()).unwrap().len();
    let old = machine.path(&format!("boot/EFI/Linux/{TOKEN}-{}.efi", machine.kernel));
    fs::write(old, vec![0; usize::try_from(kernel_bytes).unwrap()]).unwrap();
    let output = machine.with_boot_of(kernel_bytes / (1 << 20) + 4, false, &plugin());
    assert!(output.status.success(), "{}", stderr(&output));
}
