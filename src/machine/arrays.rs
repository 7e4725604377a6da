//! What arrays of md are called: their names and `mdadm.conf` in, whose names they are out; `mdadm(8)`, `mdadm.conf(5)`.
//!
//! The metadata of an array hold the host that it was made on (its homehost) and a name. Where mdadm finds another host's, it
//! gives the array the highest free number from 127 down, and a link that ends in a number or has that host's name in it.

use anyhow::Result;

use super::root::Root;

const LINKS: &str = "/dev/md";
/// Numbers from here on are those that mdadm chooses itself.
const CHOSEN_BY_MDADM: u32 = 64;

/// Whether an array has the name that its own host gives it.
///
/// # Errors
/// Fails when the links cannot be read.
pub(super) fn has_own_name(root: &Root, kernel_name: &str) -> Result<bool> {
    let number = kernel_name.strip_prefix("md").and_then(|number| number.parse::<u32>().ok());
    if number.is_none_or(|number| number < CHOSEN_BY_MDADM) {
        return Ok(true);
    }
    for name in root.names(LINKS)? {
        let target = root.link(&format!("{LINKS}/{name}"))?;
        if target.is_some_and(|target| target.rsplit('/').next() == Some(kernel_name)) && !is_foreign(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a name is what mdadm makes for another host's array: `0_0`, `home_0`, `otherhost:0`. A number alone is one that it
/// chose for want of a name.
fn is_foreign(name: &str) -> bool {
    let ends_in_number = name.rsplit_once('_').is_some_and(|(_, end)| end.bytes().all(|byte| byte.is_ascii_digit()));
    let is_chosen = name.parse::<u32>().is_ok_and(|number| number >= CHOSEN_BY_MDADM);
    name.contains(':') || ends_in_number || is_chosen
}

/// What a path says of an array: `0` for `/dev/md0`, `/dev/md/0` and `/dev/md0p2`, `root` for `/dev/md/root`.
pub fn array_name(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/dev/md")?;
    let name = rest.strip_prefix(['/', '_']).unwrap_or(rest);
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let is_partition = |rest: &str| {
        rest.strip_prefix('p').is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Some(if digits > 0 && is_partition(&name[digits..]) { &name[..digits] } else { name })
}

/// What files of mdadm say of names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Configuration {
    /// The names of the arrays that have a line.
    pub(super) names: Vec<String>,
    /// Whether another word than the host's name decides which arrays are its own.
    pub(super) has_home_host: bool,
}

impl Configuration {
    /// Adds what the text of a file says. A line that begins with a blank goes on with the one before.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#'])) {
            let mut words = line.split_ascii_whitespace();
            match (words.next().map(str::to_ascii_lowercase).as_deref(), words.next()) {
                (Some("array"), Some(path)) => self.names.extend(array_name(path).map(str::to_owned)),
                (Some("homehost"), Some(host)) => self.has_home_host |= host != "<system>",
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn an_array_of_another_host_is_known_by_its_names() {
        let fixture = Fixture::new();
        let own = |kernel_name: &str| has_own_name(&fixture.root(), kernel_name).unwrap();
        assert!(own("md0") && own("md_root"), "no link is needed");
        assert!(!own("md127"));
        fixture.link("dev/md/root", "../md127").link("dev/md/home_0", "../md126").link("dev/md/other:0", "../md125");
        fixture.link("dev/md/124", "../md124");
        assert!(own("md127"), "a name of this host beside a number");
        assert!(!own("md126") && !own("md125") && !own("md124"));
    }

    #[test]
    fn an_array_has_one_name_in_all_its_paths() {
        for (path, name) in [
            ("/dev/md0", Some("0")),
            ("/dev/md/0", Some("0")),
            ("/dev/md0p2", Some("0")),
            ("/dev/md_root", Some("root")),
            ("/dev/md/root", Some("root")),
            ("/dev/md/2nd", Some("2nd")),
            ("/dev/md", None),
            ("/dev/sda", None),
            ("<ignore>", None),
        ] {
            assert_eq!(array_name(path), name, "{path}");
        }
    }

    #[test]
    fn lines_name_arrays_and_hosts() {
        let mut read = Configuration::default();
        read.add("# ARRAY /dev/md9\nHOMEHOST <system>\nARRAY /dev/md/0  metadata=1.2 UUID=1\n  name=a:0\narray <ignore> UUID=2\n");
        assert_eq!(read, Configuration { names: vec!["0".to_owned()], has_home_host: false });
        read.add("homehost myhost\n");
        assert!(read.has_home_host);
    }
}
