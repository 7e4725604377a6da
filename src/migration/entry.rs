//! An entry that tries an initrd with the kernel that runs: the kernel's own entry in, one that differs in its initrd out.
//!
//! Boot Loader Specification, type 1. Boot loaders show the highest entry first, and start it where nothing else is said, so ours has
//! to be lower than the one that is there. systemd-boot compares versions where entries have sort keys, and `~` makes ours lower;
//! without, the names of the files, as GRUB does. Fedora's GRUB compares these as rpm compares packages (`TOKEN`, `VERSION`,
//! `RELEASE`), that of GRUB's authors as `sort --version-sort`: to the one letters come before digits, to the other behind them. In the
//! place of the kernel's version, `0` is lower for all of them; dracut's rescue entries do the same.

use std::fs;

use anyhow::Result;

use super::grub_menu;
use super::plan::PlannedFile;
use super::source::Source;
use super::survey::{Loader, Survey};
use ocinitrd_format::boot_entry::{self, value};

/// What the names of our entries have.
const MARK: &str = "ocinitrd_trial";
/// The keys that are others in our entry.
const REPLACED: [&str; 4] = ["title", "version", "initrd", "id"];

/// Where the initrd of the trial goes.
pub fn initrd_path(survey: &Survey, kernel_version: &str) -> String {
    format!("{}/{}", survey.boot, initrd_name(kernel_version))
}

fn initrd_name(kernel_version: &str) -> String {
    format!("ocinitrd-trial-{kernel_version}.img")
}

/// What the entry is called in a menu that no file of its own makes.
fn menu_id(kernel_version: &str) -> String {
    format!("ocinitrd-trial-{kernel_version}")
}

/// The entry of the trial, or why there is none.
///
/// # Errors
/// Fails when an entry that is there cannot be read.
pub fn trial(source: &Source, survey: &Survey, kernel_version: &str) -> Result<Result<PlannedFile, String>> {
    let reads_entries = survey.loaders.iter().any(|loader| loader.reads_entries());
    if !reads_entries && survey.loaders.contains(&Loader::Grub) {
        let trial = (&*menu_id(kernel_version), &*initrd_name(kernel_version));
        return grub_menu::trial(source, survey, kernel_version, trial);
    }
    if !reads_entries {
        let names: Vec<&str> = survey.loaders.iter().map(|loader| loader.name()).collect();
        let names = if names.is_empty() { "the boot loader".to_owned() } else { names.join(", ") };
        return Ok(Err(format!(
            "{names} reads no entries: name the initrd in its menu, where a key edits the lines of a kernel"
        )));
    }
    let directory = format!("{}/loader/entries", survey.boot);
    for name in source.names(&directory)?.into_iter().rev() {
        let path = format!("{directory}/{name}");
        if !name.ends_with(".conf") || name.contains(MARK) {
            continue;
        }
        let text = source.text(&path)?.unwrap_or_default();
        let Some(prefix) = boot_prefix(source, survey, &text, kernel_version) else { continue };
        let text = entry(&text, kernel_version, &format!("{prefix}/{}", initrd_name(kernel_version)));
        let reason = format!("shows the trial in the boot loader's menu, as {path} shows the kernel");
        let path = format!("{directory}/{}", name_below(&name, kernel_version));
        return Ok(Ok(PlannedFile::new(&path, text.into_bytes(), reason)));
    }
    Ok(Err(format!("no entry in {directory} is of the kernel {kernel_version}")))
}

/// The name of our entry below that of a kernel. In names of entries few characters are allowed, and a number behind `+` counts boots.
fn name_below(own: &str, kernel_version: &str) -> String {
    let is_plain = |character: &char| character.is_ascii_alphanumeric() || *character == '.';
    let plain: String =
        kernel_version.chars().map(|character| if is_plain(&character) { character } else { '_' }).collect();
    let stem = own.strip_suffix(".conf").unwrap_or(own);
    let token = without_counter(stem).strip_suffix(kernel_version).and_then(|token| token.strip_suffix('-'));
    match token.filter(|token| !token.is_empty()) {
        Some(token) => format!("{token}-0-{MARK}_{plain}.conf"),
        // Somebody has given it a name of another form.
        None => format!("A-{MARK}_{plain}.conf"),
    }
}

/// The name without the numbers of boots that are left and done, `+3` or `+2-1`.
fn without_counter(stem: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once('+') {
        Some((name, counter)) if counter.splitn(2, '-').all(is_number) => name,
        _ => stem,
    }
}

/// How to start the trial once, by the entry at this path.
pub fn how_to_start(survey: &Survey, path: &str, kernel_version: &str) -> String {
    match survey.loaders.iter().find(|loader| loader.reads_entries()) {
        Some(Loader::SystemdBoot) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            format!("`bootctl set-oneshot {name} && systemctl reboot` starts it once")
        }
        None => format!("`grub-reboot {} && systemctl reboot` starts it once", menu_id(kernel_version)),
        _ => "the entry that ends with \"(trial of ocinitrd)\" in GRUB's menu, which Shift or Esc shows, starts it"
            .to_owned(),
    }
}

/// What stands in front of paths below the boot partition in an entry, if the entry is of the kernel and its kernel is there.
fn boot_prefix(source: &Source, survey: &Survey, entry: &str, kernel_version: &str) -> Option<String> {
    let linux = value(entry, "linux")?;
    let is_rescue = boot_entry::initrds(entry).any(|initrd| initrd.contains("rescue"));
    // Arch calls the file by the package.
    let package = source.text(&format!("/usr/lib/modules/{kernel_version}/pkgbase")).ok().flatten();
    let of_package = package.map(|name| format!("vmlinuz-{}", name.trim()));
    let names_it = value(entry, "version") == Some(kernel_version)
        || linux.split('/').any(|part| part == kernel_version || part.ends_with(&format!("-{kernel_version}")))
        || (of_package.is_some() && linux.split('/').next_back() == of_package.as_deref());
    if !names_it || is_rescue {
        return None;
    }
    let starts = linux.match_indices('/').map(|(start, _)| start);
    let is_there = |start: &usize| {
        fs::metadata(source.path(&format!("{}{}", survey.boot, &linux[*start..]))).is_ok_and(|file| file.is_file())
    };
    starts.into_iter().find(is_there).map(|start| linux[..start].to_owned())
}

/// The entry with another initrd, title and version.
fn entry(text: &str, kernel_version: &str, initrd: &str) -> String {
    let title = value(text, "title").unwrap_or("Linux");
    let mut lines = vec![
        format!("title {title} (trial of ocinitrd)"),
        // Lower than that of the entry which is there.
        format!("version {kernel_version}~ocinitrd-trial"),
    ];
    let is_other = |line: &&str| boot_entry::fields(line).next().is_some_and(|(key, _)| !REPLACED.contains(&key));
    lines.extend(text.lines().filter(is_other).map(str::to_owned));
    lines.push(format!("initrd {initrd}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;
    use crate::migration::install_conf::InstallConf;
    use crate::migration::version_order;

    fn trial_of(root: &Fixture, kernel: &str) -> Result<(String, String), String> {
        let source = Source::open(root.path()).unwrap();
        let survey = Survey::of(&source, &InstallConf::default()).unwrap();
        let file = trial(&source, &survey, kernel).unwrap()?;
        Ok((file.path, String::from_utf8(file.bytes).unwrap()))
    }

    #[test]
    fn fedora_s_entry_with_and_without_a_boot_partition() {
        let root = Fixture::new();
        root.directory("boot/grub2")
            .write("etc/default/grub", "GRUB_ENABLE_BLSCFG=true\n")
            .write("boot/vmlinuz-6.1.fc44", "");
        for prefix in ["", "/boot", "/root/boot"] {
            root.write(
                "boot/loader/entries/0c1d-6.1.fc44.conf",
                &format!(
                    "title Fedora Linux (6.1.fc44) 44\nversion 6.1.fc44\nlinux {prefix}/vmlinuz-6.1.fc44\n\
                     initrd {prefix}/initramfs-6.1.fc44.img $tuned_initrd\noptions root=UUID=1 ro $tuned_params\ngrub_users $grub_users\n"
                ),
            );
            let (path, text) = trial_of(&root, "6.1.fc44").unwrap();
            assert_eq!(path, "/boot/loader/entries/0c1d-0-ocinitrd_trial_6.1.fc44.conf");
            assert_eq!(
                text,
                format!(
                    "title Fedora Linux (6.1.fc44) 44 (trial of ocinitrd)\nversion 6.1.fc44~ocinitrd-trial\n\
                     linux {prefix}/vmlinuz-6.1.fc44\noptions root=UUID=1 ro $tuned_params\ngrub_users $grub_users\n\
                     initrd {prefix}/ocinitrd-trial-6.1.fc44.img\n"
                )
            );
        }
        assert!(
            trial_of(&root, "6.1").unwrap_err().contains("is of the kernel 6.1"),
            "a part of the version is another"
        );
    }

    #[test]
    fn our_name_is_lower_and_one_that_boot_loaders_take() {
        const DEBIAN: &str = "6.12.118+deb13-amd64";
        for (own, kernel, expected) in [
            ("0c1d-6.12.118+deb13-amd64.conf", DEBIAN, "0c1d-0-ocinitrd_trial_6.12.118_deb13_amd64.conf"),
            ("c01d-6.12.118+deb13-amd64+3.conf", DEBIAN, "c01d-0-ocinitrd_trial_6.12.118_deb13_amd64.conf"),
            ("c01d-6.12.118+deb13-amd64+2-1.conf", DEBIAN, "c01d-0-ocinitrd_trial_6.12.118_deb13_amd64.conf"),
            ("a-token-6.1~rc1.conf", "6.1~rc1", "a-token-0-ocinitrd_trial_6.1_rc1.conf"),
            ("arch.conf", "6.1-arch1", "A-ocinitrd_trial_6.1_arch1.conf"),
        ] {
            let ours = name_below(own, kernel);
            assert_eq!(ours, expected);
            assert!(version_order::compare(&ours, own).is_lt(), "{ours} {own}");
        }
    }

    #[test]
    fn kernel_install_s_entry_and_what_is_none_of_this_kernel() {
        let root = Fixture::new();
        root.write("efi/EFI/systemd/systemd-bootx64.efi", "")
            .write("efi/0c1d/6.1/linux", "")
            .write("etc/machine-id", "0c1d");
        let entry = "title      Debian\nversion    6.1\nsort-key   debian\nlinux      /0c1d/6.1/linux\ninitrd     /0c1d/6.1/initrd\n";
        root.write("efi/loader/entries/0c1d-6.1.conf", entry);
        root.write("efi/loader/entries/0c1d-0-ocinitrd_trial_6.1.conf", "version 6.1\nlinux /0c1d/6.1/linux\n");
        root.write("efi/loader/entries/0c1d-6.0.conf", "version 6.0\nlinux /0c1d/6.0/linux\n");
        let (path, text) = trial_of(&root, "6.1").unwrap();
        assert_eq!(path, "/efi/loader/entries/0c1d-0-ocinitrd_trial_6.1.conf");
        assert!(text.contains("sort-key   debian\n") && text.ends_with("initrd /ocinitrd-trial-6.1.img\n"), "{text}");
        root.write("efi/loader/entries/arch.conf", "title Arch\nlinux /vmlinuz-linux\n").write("efi/vmlinuz-linux", "");
        assert!(trial_of(&root, "6.2-arch1").is_err());
        root.write("usr/lib/modules/6.2-arch1/pkgbase", "linux\n");
        assert!(trial_of(&root, "6.2-arch1").unwrap().1.contains("linux /vmlinuz-linux\n"));
        // Its kernel is not there.
        assert!(trial_of(&root, "6.0").is_err());
        fs::remove_dir_all(root.path().join("efi/EFI")).unwrap();
        assert!(trial_of(&root, "6.1").unwrap_err().contains("reads no entries"));
    }
}
