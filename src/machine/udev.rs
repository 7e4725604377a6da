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
        // A device may go while it is asked for.
        let text = root.text(&format!("{DATABASE}/{name}"))?.unwrap_or_default();
        let has = |line: String| text.lines().any(|known| known == line);
        if has(format!("E:ID_FS_TYPE={file_system}")) && has(format!("E:ID_FS_LABEL={label}")) {
            members.push(number.to_owned());
        }
    }
    Ok(members)
}
