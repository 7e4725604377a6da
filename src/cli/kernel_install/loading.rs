//! Whether an initrd loads what `modules-load.d` of the machine names.

use crate::analysis::needs::Holdings;

/// What reads `modules-load.d`.
const LOADER: &str = "usr/lib/systemd/systemd-modules-load";

/// What a person should know if nothing in an initrd with these files loads the modules.
pub fn remark(loaded: &[String], holdings: &Holdings) -> Option<String> {
    if loaded.is_empty() || holdings.paths().any(|path| path == LOADER) {
        return None;
    }
    Some(format!(
        "modules-load.d names {}, which nothing loads in the initrd, since the base has no /{LOADER}: build it with that in \
         keep_files, if no alias of a device loads them",
        loaded.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_nothing_would_load_are_named() {
        let with = |path: &str| Holdings::new([path.to_owned()], "");
        let loaded = ["dm-multipath".to_owned(), "btrfs".to_owned()];
        let said = remark(&loaded, &with("usr/bin/udevadm")).unwrap();
        assert!(said.contains("dm-multipath, btrfs") && said.contains(LOADER), "{said}");
        assert_eq!(remark(&loaded, &with(LOADER)), None);
        assert_eq!(remark(&[], &with("usr/bin/udevadm")), None);
    }
}
