//! Whether the file system is mounted that something is to be written to: what is written below an empty mount point is lost.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::analysis::machine::{read_fstab, unescape};

/// What this process sees mounted, whatever root it works on.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Insists that the mount points of `/etc/fstab` that lead to `place` are mounted.
///
/// # Errors
/// Fails when one is not.
pub fn check(root: &Path, place: &Path) -> Result<()> {
    let fstab = read_fstab(root)?;
    // Where /proc is missing nobody can tell.
    let Ok(mounts) = fs::read_to_string(MOUNTS) else { return Ok(()) };
    let points = fstab.iter().map(|line| line.point.as_str());
    for point in points.filter(|point| point.starts_with('/') && *point != "/") {
        let path = root.join(point.trim_start_matches('/'));
        if place.starts_with(&path) && !is_mounted(&mounts, &path) {
            bail!("{} is not mounted, and /etc/fstab says that it is to be: mount it", path.display());
        }
    }
    Ok(())
}

fn is_mounted(mounts: &str, point: &Path) -> bool {
    let point = fs::canonicalize(point).unwrap_or_else(|_| point.to_owned());
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|mounted| Path::new(&unescape(mounted)) == point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fstab_has_on_the_way_to_a_place_has_to_be_mounted() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        fs::create_dir_all(path("etc")).unwrap();
        fs::create_dir_all(path("boot/efi")).unwrap();
        check(root.path(), &path("boot")).unwrap();
        fs::write(path("etc/fstab"), "# comment\n/dev/a / ext4\n/dev/b /boot ext4 noauto 0 0\n/dev/c none swap\n")
            .unwrap();
        let error = check(root.path(), &path("boot")).unwrap_err().to_string();
        assert!(error.contains("boot is not mounted, and /etc/fstab says"), "{error}");
        assert!(check(root.path(), &path("boot/efi")).is_err());
        check(root.path(), &path("bootless")).unwrap();
        fs::write(path("etc/fstab"), "/dev/c /boot/efi vfat\n").unwrap();
        check(root.path(), &path("boot")).unwrap();
    }

    #[test]
    fn a_mount_is_found_by_its_path() {
        let mounts = "20 1 254:1 / / rw - ext4 /dev/a rw\n21 20 254:2 / /my\\040boot rw - ext4 /dev/b rw\n";
        assert!(is_mounted(mounts, Path::new("/my boot")) && !is_mounted(mounts, Path::new("/my")));
    }
}
