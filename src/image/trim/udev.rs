//! What udev's rules lead to: the programs that they run, and the units that they ask for (udev(7)).

use super::references::References;
use super::script;
use super::unit;

/// The keys whose values are commands.
const COMMANDS: [&str; 4] = ["PROGRAM", "RUN", "RUN{program}", "IMPORT{program}"];
/// The keys whose values are units.
const UNITS: [&str; 2] = ["ENV{SYSTEMD_WANTS}", "ENV{SYSTEMD_USER_WANTS}"];

/// The references of a file of rules.
pub fn references(text: &str) -> References {
    let mut references = References::default();
    for line in text.replace("\\\n", " ").lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (key, value) in assignments(line) {
            if COMMANDS.contains(&key) {
                script::words(value).for_each(|word| references.add_word(word));
            } else if UNITS.contains(&key) {
                references.units.extend(value.split_whitespace().map(unit::without_specifiers));
            }
        }
    }
    references
}

/// The keys of a line and their values; neither operators nor quotes are part of them.
fn assignments(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (before, after) = rest.split_once('"')?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        let key =
            before.trim_start_matches([',', ' ', '\t']).trim_end_matches(['=', '+', '-', ':', '!', ' ', 'e', 'i']);
        Some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_wanted_units_are_found() {
        let references = references(
            "# RUN+=\"/bin/no\"\nACTION==\"add\", IMPORT{program}=\"ata_id --export $devnode\"\n\
             KERNEL==\"x\", RUN{program}+=\"/usr/bin/systemd-run -d \\\n /usr/bin/lvm vgchange\", ENV{A}=\"/usr/bin/b\"\n\
             ENV{SYSTEMD_WANTS}+=\"mdmonitor.service mdadm-last-resort@$env{MD_DEVICE}.timer\"\n",
        );
        let paths: Vec<&str> = references.paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["/usr/bin/lvm", "/usr/bin/systemd-run"]);
        assert!(references.programs.contains("ata_id"));
        let units: Vec<&str> = references.units.iter().map(String::as_str).collect();
        assert_eq!(units, ["mdadm-last-resort@.timer", "mdmonitor.service"]);
    }
}
