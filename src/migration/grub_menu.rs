//! A trial in the menu of a GRUB that reads no entries, as Debian's: the kernel's own menu entry in, one that differs in its initrd out.
//!
//! `grub.cfg` is written by `update-grub` and read by nobody else; at its end it reads `custom.cfg` beside it, which is the administrator's.
//! The trial goes to the end of that, so that no entry before it changes its number.

use std::fs;

use anyhow::Result;

use super::plan::PlannedFile;
use super::source::Source;
use super::survey::Survey;

const DIRECTORIES: [&str; 2] = ["/boot/grub", "/boot/grub2"];
/// Around what is ours in `custom.cfg`.
const BEGIN: &str = "# Written by `ocinitrd kernel-install setup`: begin";
const END: &str = "# Written by `ocinitrd kernel-install setup`: end";

/// `custom.cfg` with the trial, or why there is none. `initrd` is its name on the boot partition, `id` what the entry is called.
///
/// # Errors
/// Fails when a file that is there cannot be read.
pub fn trial(
    source: &Source,
    survey: &Survey,
    kernel_version: &str,
    (id, initrd): (&str, &str),
) -> Result<Result<PlannedFile, String>> {
    let place = DIRECTORIES.into_iter().find(|directory| source.has(&format!("{directory}/grub.cfg")));
    let Some(directory) = place else { return Ok(Err("there is no /boot/grub/grub.cfg".to_owned())) };
    let menu = source.text(&format!("{directory}/grub.cfg"))?.unwrap_or_default();
    if !menu.contains("custom.cfg") {
        let reason = format!("{directory}/grub.cfg does not read custom.cfg, as /etc/grub.d/41_custom has it do");
        return Ok(Err(reason));
    }
    let of_kernel = |entry: &Vec<&str>| {
        let linux = path_of(entry, "linux")?;
        let (prefix, name) = linux.rsplit_once('/')?;
        let is_there = fs::metadata(source.path(&format!("{}/{name}", survey.boot))).is_ok_and(|file| file.is_file());
        let is_meant = name == format!("vmlinuz-{kernel_version}") && !entry[0].contains("recovery mode");
        (is_there && is_meant).then(|| entry_of_trial(entry, id, &format!("{prefix}/{initrd}")))
    };
    let Some(entry) = entries(&menu).iter().find_map(of_kernel) else {
        return Ok(Err(format!("no entry in {directory}/grub.cfg is of the kernel {kernel_version}")));
    };
    let path = format!("{directory}/custom.cfg");
    let mut text = without_ours(&source.text(&path)?.unwrap_or_default());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{BEGIN}\n{entry}{END}\n"));
    let reason = format!("shows the trial in GRUB's menu, as {directory}/grub.cfg shows the kernel");
    Ok(Ok(PlannedFile::new(&path, text.into_bytes(), reason)))
}

/// The menu entries, each as its lines but for the brace at its end, at any depth.
fn entries(menu: &str) -> Vec<Vec<&str>> {
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut is_within = false;
    for line in menu.lines().map(str::trim) {
        if line.starts_with("menuentry ") {
            found.push(Vec::new());
            is_within = true;
        } else if line == "}" {
            is_within = false;
        }
        if let Some(entry) = found.last_mut().filter(|_| is_within) {
            entry.push(line);
        }
    }
    found
}

/// The file that a command of an entry names.
fn path_of<'a>(entry: &[&'a str], command: &str) -> Option<&'a str> {
    let mut words = entry.iter().map(|line| line.split_ascii_whitespace());
    words.find_map(|mut words| (words.next() == Some(command)).then(|| words.next())).flatten()
}

fn entry_of_trial(entry: &[&str], id: &str, initrd: &str) -> String {
    let title = entry[0].split(['\'', '"']).nth(1).unwrap_or("Linux");
    // Where the menu has a password, this entry asks for it if the kernel's does.
    let access = if entry[0].contains("--unrestricted") { " --unrestricted" } else { "" };
    let mut text = format!("menuentry '{title} (trial of ocinitrd)'{access} --id '{id}' {{\n");
    for line in &entry[1..] {
        let command = line.split_ascii_whitespace().next().unwrap_or_default();
        if !command.starts_with("initrd") && command != "savedefault" {
            text.push_str(&format!("\t{line}\n"));
        }
    }
    text + &format!("\tinitrd\t{initrd}\n}}\n")
}

/// A `custom.cfg` without what an earlier run put there.
fn without_ours(text: &str) -> String {
    let mut is_ours = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        is_ours |= line.trim_end() == BEGIN;
        if !is_ours {
            kept.push_str(line);
        }
        is_ours &= line.trim_end() != END;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;
    use crate::migration::install_conf::InstallConf;

    /// As update-grub writes it, shortened.
    const MENU: &str = "\
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
\tload_video
\tif [ x$grub_platform = xxen ]; then insmod xzio; fi
\tsearch --no-floppy --fs-uuid --set=root 1
\tlinux\t/vmlinuz-6.12 root=UUID=1 ro  quiet
\techo\t'Loading initial ramdisk ...'
\tinitrd\t/initrd.img-6.12
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {
\tmenuentry 'Debian GNU/Linux, with Linux 6.12 (recovery mode)' --class debian {
\t\tlinux\t/vmlinuz-6.12 root=UUID=1 ro single
\t}
\tmenuentry 'Debian GNU/Linux, with Linux 6.1' --class debian --unrestricted {
\t\tsavedefault
\t\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro
\t\tinitrd\t/boot/initrd.img-6.1
\t}
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
";

    fn trial_of(root: &Fixture, kernel: &str) -> Result<(String, String), String> {
        let source = Source::open(root.path()).unwrap();
        let survey = Survey::of(&source, &InstallConf::default()).unwrap();
        let file = trial(&source, &survey, kernel, ("trial", "trial.img")).unwrap()?;
        Ok((file.path, String::from_utf8(file.bytes).unwrap()))
    }

    #[test]
    fn the_kernel_s_entry_gets_another_initrd_at_the_end_of_what_is_the_administrator_s() {
        let root = Fixture::new();
        assert!(trial_of(&root, "6.12").unwrap_err().contains("there is no /boot/grub/grub.cfg"));
        root.write("boot/grub/grub.cfg", MENU).write("boot/vmlinuz-6.12", "");
        let expected = format!(
            "{BEGIN}\nmenuentry 'Debian GNU/Linux (trial of ocinitrd)' --id 'trial' {{\n\tload_video\n\
             \tif [ x$grub_platform = xxen ]; then insmod xzio; fi\n\tsearch --no-floppy --fs-uuid --set=root 1\n\
             \tlinux\t/vmlinuz-6.12 root=UUID=1 ro  quiet\n\techo\t'Loading initial ramdisk ...'\n\tinitrd\t/trial.img\n}}\n{END}\n"
        );
        assert_eq!(trial_of(&root, "6.12"), Ok(("/boot/grub/custom.cfg".to_owned(), expected.clone())));
        // What is there stays in front, and a second run says the same.
        root.write("boot/grub/custom.cfg", "set mine=1");
        let text = trial_of(&root, "6.12").unwrap().1;
        assert_eq!(text, format!("set mine=1\n{expected}"));
        root.write("boot/grub/custom.cfg", &text);
        assert_eq!(trial_of(&root, "6.12").unwrap().1, text);
    }

    #[test]
    fn an_entry_in_a_submenu_serves_and_one_whose_kernel_is_gone_does_not() {
        let root = Fixture::new();
        root.write("boot/grub/grub.cfg", MENU);
        assert!(trial_of(&root, "6.1").unwrap_err().contains("is of the kernel 6.1"));
        root.write("boot/vmlinuz-6.1", "");
        let text = trial_of(&root, "6.1").unwrap().1;
        assert!(
            text.contains("(trial of ocinitrd)' --unrestricted --id 'trial' {\n\tlinux\t/boot/vmlinuz-6.1 "),
            "{text}"
        );
        assert!(text.contains("\tinitrd\t/boot/trial.img\n}\n"), "{text}");
        root.write("boot/grub/grub.cfg", &MENU.replace("custom.cfg", "other.cfg"));
        assert!(trial_of(&root, "6.1").unwrap_err().contains("does not read custom.cfg"));
    }
}
