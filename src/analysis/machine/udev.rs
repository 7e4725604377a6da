//! What udev knows of block devices: its database in, devices out. It is in `/run`, and only where udev runs.

use anyhow::Result;

use super::root::Root;

const DATABASE: &str = "/run/udev/data";

/// The numbers (`MAJOR:MINOR`) of the devices in which udev found that file system with that label.
///
/// # Errors
/// Fails when the database is there and cannot be read.
pub(super) fn members(root: &Root, file_system: &str, label: &str) -> Result<Vec<String>> {
    let mut members = Vec::new();
    for name in root.names(DATABASE)? {
        let Some(number) = name.strip_prefix('b') else { continue };
        let text = entry(root, &name)?;
        let has = |line: String| text.lines().any(|known| known == line);
        if has(format!("E:ID_FS_TYPE={file_system}")) && has(format!("E:ID_FS_LABEL={label}")) {
            members.push(number.to_owned());
        }
    }
    Ok(members)
}

/// A property of a block device, by the kernel's name of it.
///
/// # Errors
/// Fails when the database is there and cannot be read.
pub(super) fn property(root: &Root, kernel_name: &str, name: &str) -> Result<Option<String>> {
    let Some(number) = root.attribute(&format!("/sys/class/block/{kernel_name}/dev"))? else { return Ok(None) };
    let text = entry(root, &format!("b{number}"))?;
    let values = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    Ok(values.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back())
}

/// What is known of a device, which may go while it is asked for.
fn entry(root: &Root, name: &str) -> Result<String> {
    Ok(root.text(&format!("{DATABASE}/{name}"))?.unwrap_or_default())
}
