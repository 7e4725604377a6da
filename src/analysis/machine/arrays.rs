//! What arrays of md are called: their names and `mdadm.conf` in, whose names they are out; `mdadm(8)`, `mdadm.conf(5)`.
//!
//! The metadata of an array hold the host that it was made on (its homehost) and a name. Where mdadm finds another host's, it
//! gives the array the highest free number from 127 down, and a link with that host's name in front (`other:root`) or, where the name
//! has no host, with `_0` behind it; while a name is taken, with the next number (`create_mddev` in mdadm's `mdopen.c`).

use anyhow::Result;

use super::root::Root;
use super::udev;

const LINKS: &str = "/dev/md";
/// Numbers from here on are those that mdadm chooses itself.
const CHOSEN_BY_MDADM: u32 = 64;

/// Whether an array has the name that its own host gives it.
///
/// # Errors
/// Fails when the links or udev's database cannot be read.
pub(super) fn has_own_name(root: &Root, kernel_name: &str) -> Result<bool> {
    let number = kernel_name.strip_prefix("md").and_then(|number| number.parse::<u32>().ok());
    if number.is_none_or(|number| number < CHOSEN_BY_MDADM) {
        return Ok(true);
    }
    let names = root.names(LINKS)?;
    let given = udev::property(root, kernel_name, "MD_NAME")?;
    for name in &names {
        let target = root.link(&format!("{LINKS}/{name}"))?;
        let is_of_array = target.is_some_and(|target| target.rsplit('/').next() == Some(kernel_name));
        let is_foreign = || match &given {
            Some(given) => is_made_of(name, given),
            None => is_foreign(name, &names),
        };
        if is_of_array && !is_foreign() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a link has the name that mdadm makes of an array's own, `HOST:NAME` or `NAME`, where that is another host's or taken.
fn is_made_of(link: &str, given: &str) -> bool {
    // As mdadm writes it into a path.
    let given = given.replace('/', "-").replace([' ', '\t'], "_");
    let name = given.split_once(':').map_or(given.as_str(), |(_, name)| name);
    let is_numbered = |name: &str| link.strip_prefix(name).and_then(|end| end.strip_prefix('_')).is_some_and(is_number);
    (given.contains(':') && link == given) || is_numbered(&given) || is_numbered(name)
}

/// Whether a name is what mdadm makes for another host's array, where nothing says what the array itself is called:
/// `otherhost:0`, `home_0`. mdadm counts from 0 up until a name is free, so that `data_2` is an array's own name where there is no
/// `data_1`. A number alone is one that it chose for want of a name.
fn is_foreign(name: &str, names: &[String]) -> bool {
    let is_chosen = name.parse::<u32>().is_ok_and(|number| number >= CHOSEN_BY_MDADM);
    name.contains(':') || is_chosen || is_counted(name, names)
}

fn is_counted(name: &str, names: &[String]) -> bool {
    let Some((stem, number)) = name.rsplit_once('_').filter(|(_, end)| is_number(end)) else { return false };
    let Ok(number) = number.parse::<usize>() else { return false };
    // There are fewer arrays than that otherwise.
    number <= names.len() && (0..number).all(|earlier| names.contains(&format!("{stem}_{earlier}")))
}

/// Whether it is a number as mdadm writes it.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() && (text == "0" || !text.starts_with('0'))
}

/// What a path says of an array: `0` for `/dev/md0`, `/dev/md/0` and `/dev/md0p2`, `root` for `/dev/md/root`.
pub fn array_name(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/dev/md")?;
    let is_numbered = rest.starts_with(|first: char| first.is_ascii_digit());
    let name = if is_numbered { rest } else { rest.strip_prefix(['/', '_'])? };
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
    /// What the text of a file says. A line that begins with a blank goes on with the one before.
    pub(super) fn parse(text: &str) -> Self {
        let mut read = Configuration::default();
        for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#'])) {
            let mut words = line.split_ascii_whitespace();
            match (words.next().map(str::to_ascii_lowercase).as_deref(), words.next()) {
                (Some("array"), Some(path)) => read.names.extend(array_name(path).map(str::to_owned)),
                (Some("homehost"), Some(host)) => read.has_home_host |= host != "<system>",
                _ => {}
            }
        }
        read
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
    fn a_number_behind_a_name_is_mdadm_s_only_where_it_counted_up_to_it() {
        let fixture = Fixture::new();
        let own = |kernel_name: &str| has_own_name(&fixture.root(), kernel_name).unwrap();
        fixture
            .link("dev/md/data_2", "../md127")
            .link("dev/md/raid_127", "../md126")
            .link("dev/md/disk_01", "../md125");
        assert!(own("md127") && own("md126") && own("md125"));
        fixture.link("dev/md/data_0", "../md124").link("dev/md/data_1", "../md123");
        assert!(!own("md124") && !own("md123") && !own("md127"));
    }

    #[test]
    fn what_the_array_itself_is_called_decides_where_udev_knows_it() {
        let fixture = Fixture::new();
        let own = |kernel_name: &str, link: &str, given: &str| {
            let minor = &kernel_name[2..];
            fixture.write(&format!("sys/class/block/{kernel_name}/dev"), &format!("9:{minor}\n"));
            fixture.write(&format!("run/udev/data/b9:{minor}"), &format!("E:MD_LEVEL=raid1\nE:MD_NAME={given}\n"));
            fixture.link(&format!("dev/md/{link}"), &format!("../{kernel_name}"));
            has_own_name(&fixture.root(), kernel_name).unwrap()
        };
        assert!(own("md127", "data_0", "myhost:data_0") && own("md126", "126", "myhost:126"));
        assert!(own("md125", "listed", "other:root"), "a line of mdadm.conf names it");
        assert!(!own("md124", "other:home", "other:home") && !own("md123", "root_0", "root"));
        assert!(!own("md122", "root_1", "myhost:root") && !own("md121", "other:home_0", "other:home"));
        assert!(!own("md120", "a_b_0", "a b") && own("md119", "a_b", "myhost:a b"));
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
            ("/dev/mdata", None),
            ("/dev/sda", None),
            ("<ignore>", None),
        ] {
            assert_eq!(array_name(path), name, "{path}");
        }
    }

    #[test]
    fn lines_name_arrays_and_hosts() {
        let read = Configuration::parse(
            "# ARRAY /dev/md9\nHOMEHOST <system>\nARRAY /dev/md/0  metadata=1.2 UUID=1\n  name=a:0\narray <ignore> UUID=2\n",
        );
        assert_eq!(read, Configuration { names: vec!["0".to_owned()], has_home_host: false });
        assert!(Configuration::parse("homehost myhost\n").has_home_host);
    }
}
