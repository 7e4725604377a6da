//! Whether the console of an initrd becomes what `/etc/vconsole.conf` says: without that a passphrase is typed on other keys.

use crate::host::Setting;
use crate::needs::Holdings;
use crate::vconsole::SETUP;

/// What a person should know of settings that an initrd with these files does not follow, a line each.
pub fn remarks(settings: &[Setting], holdings: &Holdings) -> Vec<String> {
    let has = |path: &str| holdings.paths().any(|held| held == path);
    let mut remarks = Vec::new();
    for Setting { text, value, directory, program, is_there } in settings {
        let programs: Vec<String> =
            [SETUP, *program].iter().filter(|path| !has(path)).map(|path| format!("/{path}")).collect();
        if !programs.is_empty() {
            remarks.push(format!(
                "{text} of /etc/vconsole.conf does not count in the initrd, since the base has no {}: build it with \
                 --profile vconsole",
                programs.join(" and no ")
            ));
        } else if !is_there && !holdings.paths().any(|path| is_of(path, directory, value)) {
            remarks.push(format!(
                "{text} of /etc/vconsole.conf is in no directory {directory} of this machine or of the base: install the \
                 package that has it, kbd-misc or kbd-legacy"
            ));
        }
    }
    remarks
}

/// Whether a file is one that the value names.
fn is_of(path: &str, directory: &str, value: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.split('/').any(|part| part == directory)
        && name.strip_prefix(value).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks_of(is_there: bool, paths: &[&str]) -> Vec<String> {
        let setting = Setting {
            text: "KEYMAP=de".to_owned(),
            value: "de".to_owned(),
            directory: "keymaps",
            program: "usr/bin/loadkeys",
            is_there,
        };
        remarks(&[setting], &Holdings::new(paths.iter().map(|path| (*path).to_owned()), ""))
    }

    #[test]
    fn a_keymap_takes_the_programs_and_a_file_of_the_machine_or_of_the_base() {
        let programs = ["usr/lib/systemd/systemd-vconsole-setup", "usr/bin/loadkeys"];
        assert!(remarks_of(true, &programs).is_empty());
        assert!(remarks_of(false, &programs)[0].contains("in no directory keymaps"));
        let with = |path| remarks_of(false, &[&programs[..], &[path]].concat());
        assert!(with("usr/lib/kbd/keymaps/xkb/de.map.gz").is_empty());
        assert_eq!(with("usr/lib/kbd/keymaps/xkb/de-nodeadkeys.map.gz").len(), 1);
        assert!(remarks_of(true, &programs[..1])[0].contains("has no /usr/bin/loadkeys: build"));
    }
}
