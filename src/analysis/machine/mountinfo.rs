//! What is mounted where: the text of `/proc/PID/mountinfo` in, mounts out; `proc_pid_mountinfo(5)`.

use anyhow::{Context, Result};

use super::root::Root;

/// Init's mounts are the machine's; a program may have others, as in a unit with a file system of its own. Where the
/// processes of others are hidden there are only our own.
const FILES: [&str; 2] = ["/proc/1/mountinfo", OWN];
const OWN: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Mount {
    /// `MAJOR:MINOR` of its device, of which the major number is 0 where the kernel made it up.
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) point: String,
    /// The type of its file system.
    pub(super) kind: String,
    /// What was mounted, in the words of the file system.
    pub(super) source: String,
    /// The options of the mount and of its file system.
    pub(super) options: String,
}

impl Mount {
    /// Whether it is on no block device that the kernel could tell.
    pub(super) fn is_anonymous(&self) -> bool {
        self.device.starts_with("0:")
    }

    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let options = self.options.split(',').filter_map(|option| option.split_once('='));
        options.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back()
    }
}

/// All mounts of a machine.
#[derive(Clone, Debug)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// The mounts of the machine whose root is `root`.
    ///
    /// # Errors
    /// Fails when they cannot be read or understood.
    pub(super) fn read(root: &Root) -> Result<Self> {
        // Where a machine is mounted below a directory, our own mounts say what lies there, not those of its init.
        if let Some(text) = root.text(OWN)? {
            let mounts = parse(&text).with_context(|| format!("reading {}", root.shown(OWN)))?;
            if let Some(below) = below(&mounts, &root.directory().to_string_lossy()) {
                return Ok(Mounts(below));
            }
        }
        for file in FILES {
            if let Some(text) = root.text(file)? {
                return Ok(Mounts(parse(&text).with_context(|| format!("reading {}", root.shown(file)))?));
            }
        }
        anyhow::bail!(
            "there is no file {}: a machine that is mounted below a directory also needs /proc and /sys there \
             (mount --rbind /proc {}; mount --rbind /sys {})",
            root.shown(OWN),
            root.shown("/proc"),
            root.shown("/sys")
        )
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// What is mounted at `point`: of several mounts the last, which hides the others.
    pub(super) fn at(&self, point: &str) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.point == point)
    }

    /// The mount that `path` lies in.
    pub(super) fn holding(&self, path: &str) -> Option<&Mount> {
        let holds = |mount: &&Mount| mount.point == "/" || is_below(path, &mount.point);
        // Of mounts at the same point the last is taken, as max_by_key does.
        self.0.iter().filter(holds).max_by_key(|mount| mount.point.len())
    }
}

/// Reads the text of the file.
///
/// # Errors
/// Fails on a line that is none of it.
pub(super) fn parse(text: &str) -> Result<Vec<Mount>> {
    text.lines().map(|line| parse_line(line).with_context(|| format!("{line:?} is no mount"))).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (of_mount, of_file_system) = line.split_once(" - ")?;
    let mut of_mount = of_mount.split(' ');
    let device = of_mount.nth(2)?.to_owned();
    let point = unescape(of_mount.nth(1)?);
    let mount_options = of_mount.next()?;
    let mut of_file_system = of_file_system.split(' ');
    let kind = of_file_system.next()?.to_owned();
    let source = unescape(of_file_system.next()?);
    let options = unescape(&format!("{mount_options},{}", of_file_system.next().unwrap_or_default()));
    Some(Mount { device, point, kind, source, options })
}

/// Puts back what the kernel, and fstab(5), write as a backslash and three octal digits: blanks, line ends and the backslash.
pub fn unescape(field: &str) -> String {
    let [mut text, mut rest] = [String::new(), field.to_owned()];
    while let Some((before, after)) = rest.split_once('\\') {
        text += before;
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (character, length) = code.map_or(('\\', 0), |code| (char::from(code), 3));
        text.push(character);
        rest = after[length..].to_owned();
    }
    text + &rest
}

/// The mounts at and below `directory`, as if it were the root; nothing where it is the root or no mount point.
fn below(mounts: &[Mount], directory: &str) -> Option<Vec<Mount>> {
    if directory == "/" || !mounts.iter().any(|mount| mount.point == directory) {
        return None;
    }
    let within = mounts.iter().filter_map(|mount| {
        let rest = is_below(&mount.point, directory).then(|| &mount.point[directory.len()..])?;
        Some(Mount { point: if rest.is_empty() { "/".to_owned() } else { rest.to_owned() }, ..mount.clone() })
    });
    Some(within.collect())
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
1 1 0:2 / / rw - rootfs rootfs rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
28 27 0:33 /usr /usr ro - btrfs /dev/mapper/a\\040b rw,subvol=/x\\134y
29 27 8:1 / /mnt rw - xfs /dev/sda1 rw
30 29 8:2 / /mnt/usr rw - ext4 /dev/sda2 rw
31 27 8:3 / /mnt2 rw - ext4 /dev/sda3
";

    #[test]
    fn the_last_mount_at_a_point_is_what_is_seen_there() {
        let mounts = Mounts(parse(TEXT).unwrap());
        let root = mounts.at("/").unwrap();
        assert_eq!((root.device.as_str(), root.kind.as_str(), root.source.as_str()), ("254:0", "ext4", "/dev/vda"));
        assert!(!root.is_anonymous());
        assert_eq!(root.options, "rw,relatime,rw,discard");
        assert!(mounts.at("/home").is_none());
        assert_eq!(mounts.holding("/usr/bin").unwrap().point, "/usr");
        assert_eq!(mounts.holding("/mnt2/x").unwrap().device, "8:3");
        assert_eq!(mounts.holding("/usr2").unwrap().device, "254:0");
    }

    #[test]
    fn what_the_kernel_escapes_is_put_back() {
        let usr = &parse(TEXT).unwrap()[2];
        assert!(usr.is_anonymous());
        assert_eq!(usr.source, "/dev/mapper/a b");
        assert_eq!(usr.option("subvol"), Some("/x\\y"));
        assert_eq!(unescape("a\\b\\9\\"), "a\\b\\9\\");
    }

    #[test]
    fn a_machine_below_a_directory_has_its_own_root() {
        let mounts = Mounts(below(&parse(TEXT).unwrap(), "/mnt").unwrap());
        assert_eq!(mounts.at("/").unwrap().device, "8:1");
        assert_eq!(mounts.at("/usr").unwrap().device, "8:2");
        assert_eq!(mounts.0.len(), 2);
        assert!(below(&parse(TEXT).unwrap(), "/home").is_none());
        assert!(below(&parse(TEXT).unwrap(), "/").is_none());
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        let error = parse("27 1 254:0 / / rw ext4 /dev/vda rw\n").unwrap_err().to_string();
        assert!(error.contains("27 1 254:0") && error.ends_with("is no mount"), "{error}");
    }
}
