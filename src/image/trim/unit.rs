//! What a systemd unit leads to: the units that it names and the programs that it starts (systemd.unit(5)).

use super::references::References;
use super::script;

/// The kinds of units, as their names end.
const SUFFIXES: [&str; 11] = [
    ".automount",
    ".device",
    ".mount",
    ".path",
    ".scope",
    ".service",
    ".slice",
    ".socket",
    ".swap",
    ".target",
    ".timer",
];
/// The kinds of units that start another of the same name, and what that may be; a socket may start an instance for each
/// connection.
const STARTED_BY_NAME: [(&str, &[&str]); 4] = [
    (".automount", &[".mount"]),
    (".path", &[".service"]),
    (".socket", &[".service", "@.service"]),
    (".timer", &[".service"]),
];
/// The directories beside a unit whose links are dependencies of it.
pub const DEPENDENCIES: [&str; 3] = [".requires", ".upholds", ".wants"];
/// The settings that have other units started. What only orders or stops units is no reason to have them.
const STARTING: [&str; 10] =
    ["Wants", "Requires", "Requisite", "BindsTo", "Upholds", "OnFailure", "OnSuccess", "Sockets", "Unit", "Service"];
/// Conditions that no initrd meets: the file is in every one, and systemd takes none for one that was updated.
const NEVER_IN_INITRD: [(&str, &str); 3] = [
    ("ConditionPathExists", "!/etc/initrd-release"),
    ("ConditionNeedsUpdate", "/etc"),
    ("ConditionNeedsUpdate", "/var"),
];

/// The references of a unit or of a drop-in; none if it has a condition that no initrd meets.
pub fn references(text: &str) -> References {
    let mut references = References::default();
    let text = text.replace("\\\n", " ");
    let settings = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    for (key, value) in settings.filter_map(|line| line.split_once('=')) {
        let (key, value) = (key.trim(), value.trim());
        if NEVER_IN_INITRD.contains(&(key, value)) {
            return References::default();
        }
        if STARTING.contains(&key) {
            references.units.extend(value.split_whitespace().map(without_specifiers));
        } else if key.starts_with("Exec") {
            // What stands before the program changes how it is run.
            let command = value.trim_start_matches(['-', '+', '@', ':', '!', '|']);
            script::words(command).for_each(|word| references.add_word(word));
            // Their names have characters that separate words of a script.
            command.split_whitespace().filter(|word| is_unit(word)).for_each(|word| references.add_word(word));
        }
    }
    references
}

/// The units that one of that name starts without naming them, if they are there.
pub fn started_by_name(name: &str) -> impl Iterator<Item = String> {
    let kind = STARTED_BY_NAME.iter().find_map(|(suffix, started)| Some((name.strip_suffix(suffix)?, started)));
    kind.into_iter().flat_map(|(stem, started)| started.iter().map(move |suffix| format!("{stem}{suffix}")))
}

/// Whether `name` is what a unit may be called.
pub fn is_unit(name: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || ":_.\\@-%".contains(character);
    name.chars().all(allowed) && SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// The template that an instance is made from, if the unit is one.
pub fn template(name: &str) -> Option<String> {
    let (at, dot) = (name.find('@')?, name.rfind('.')?);
    (at + 1 < dot).then(|| format!("{}{}", &name[..=at], &name[dot..]))
}

/// A name with an instance that is not known before it runs, as the template's.
pub fn without_specifiers(name: &str) -> String {
    template(name).filter(|_| name.contains(['%', '$'])).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_leads_to_what_it_starts_and_not_to_what_it_waits_for() {
        let references = references(
            "[Unit]\nAfter=late.service\nWants=modprobe@loop.service \\\n  b.target\n[Service]\n\
             ExecStart=-/usr/bin/one --opt\nExecStartPost=@two arg0\nExecStop=sh -c 'three | /x/four'\n\
             OnFailure=bad@%n.service\n#ExecStop=/usr/bin/no\n",
        );
        let units: Vec<&str> = references.units.iter().map(String::as_str).collect();
        assert_eq!(units, ["b.target", "bad@.service", "modprobe@loop.service"]);
        let paths: Vec<&str> = references.paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["/usr/bin/one", "/x/four"]);
        for program in ["two", "sh", "three"] {
            assert!(references.programs.contains(program), "{program}");
        }
    }

    #[test]
    fn a_unit_that_starts_in_no_initrd_leads_nowhere() {
        for condition in ["ConditionPathExists=!/etc/initrd-release", "ConditionNeedsUpdate=/etc"] {
            let text = format!("[Unit]\nWants=a.target\n{condition}\n[Service]\nExecStart=/usr/bin/x\n");
            assert_eq!(references(&text), References::default(), "{condition}");
        }
        // One of several triggers decides nothing.
        assert!(!references("ConditionNeedsUpdate=|/etc\nExecStart=/usr/bin/x\n").paths.is_empty());
    }

    #[test]
    fn units_are_told_by_their_names() {
        for (name, is) in
            [("a.service", true), ("a@.mount", true), (".service", false), ("a b.service", false), ("a.so", false)]
        {
            assert_eq!(is_unit(name), is, "{name}");
        }
        assert_eq!(template("a@b.c.service").as_deref(), Some("a@.service"));
        assert_eq!(template("a@.service"), None);
        assert_eq!(without_specifiers("a@%i.service"), "a@.service");
    }
}
