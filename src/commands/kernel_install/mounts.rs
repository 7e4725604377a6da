//! Whether the file system is mounted that something is to be written to: what is written below an empty mount point is lost.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::machine::unescape;
use crate::regular_file::{self, TEXT_LIMIT_BYTES};

/// What this process sees mounted, whatever root it works on.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Insists that the mount points of `/etc/fstab` that lead to `place` are mounted.
///
/// # Errors
/// Fails when one is not.
pub fn check(root: &Path, place: &Path) -> Result<()> {
    let fstab = fstab(&root.join("etc/fstab"))?;
    // Where /proc is missing nobody can tell.
    let Ok(mounts) = fs::read_to_string(MOUNTS) else { return Ok(()) };
    for point in mount_points(&fstab) {
        let path = root.join(point.trim_start_matches('/'));
        if place.starts_with(&path) && !is_mounted(&mounts, &path) {
            bail!("{} is not mounted, and /etc/fstab says that it is to be: mount it", path.display());
        }
    }
    Ok(())
}

/// The text of fstab, which is empty where there is none.
fn fstab(path: &Path) -> Result<String> {
    match regular_file::read_text(path, TEXT_LIMIT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("reading {}", path.display())),
    }
}

/// The mount points in the text of fstab, but for the root.
fn mount_points(fstab: &str) -> impl Iterator<Item = String> {
    let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let points = lines.filter_map(|line| line.split_ascii_whitespace().nth(1)).map(unescape);
    points.filter(|point| point.starts_with('/') && point != "/")
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
