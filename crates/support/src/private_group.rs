//! Who besides its owner may write to a directory, where the owner's group counts for nobody else.
//!
//! Fedora, Debian and Ubuntu give each user a group of their own, and with it a umask of 002: directories that such a user makes are
//! writable for a group in which nobody else is. That is looked up in passwd(5) and group(5); of users who are not listed
//! there nothing is known, and any group counts as other people.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

/// Whether somebody else than its owner and root may write to the directory at `path`, which is no symlink.
pub fn others_may_write(path: &Path, metadata: &Metadata) -> bool {
    match metadata.mode() & 0o022 {
        0 => false,
        // Where there is an access control list, these bits are its mask: what everybody on it may do at most.
        0o020 => has_list(path) || !is_private(metadata.gid(), metadata.uid()),
        _ => true,
    }
}

/// Whether there is an access control list, or nothing can be known of one.
fn has_list(path: &Path) -> bool {
    let found = rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    !matches!(found, Err(Errno::NODATA | Errno::NOTSUP))
}

fn is_private(group: u32, user: u32) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    holds_only(&read("/etc/passwd"), &read("/etc/group"), group, user)
}

/// Whether the texts of passwd and group have `user` in `group`, by number, and nobody else.
fn holds_only(passwd: &str, groups: &str, group: u32, user: u32) -> bool {
    let mut owner = None;
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(uid), Some(gid)) = (fields.next(), fields.nth(1), fields.next()) else { continue };
        if gid.parse() != Ok(group) {
            continue;
        }
        if uid.parse() != Ok(user) || owner.is_some_and(|owner| owner != name) {
            return false;
        }
        owner = Some(name);
    }
    let Some(owner) = owner else { return false };
    let entry = groups.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let is_meant = fields.nth(2)?.parse() == Ok(group);
        is_meant.then(|| fields.next().unwrap_or_default())
    });
    entry.is_some_and(|members| members.split(',').all(|member| member.is_empty() || member.trim() == owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\noperator:x:11:0::/:\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                          bob:x:1001:100::/home/bob:/bin/sh\ncarol:x:1002:100::/home/carol:/bin/sh\n";

    #[test]
    fn a_group_is_private_if_its_user_alone_is_in_it() {
        for (groups, group, user, expected) in [
            ("alice:x:1000:\n", 1000, 1000, true),
            ("alice:x:1000:alice\n", 1000, 1000, true),
            ("alice:x:1000:alice,bob\n", 1000, 1000, false),
            ("alice:x:1000:bob\n", 1000, 1000, false),
            // Somebody else's file in it, a group that is listed nowhere, and one that is the first of several users.
            ("alice:x:1000:\n", 1000, 1001, false),
            ("other:x:1:\n", 1000, 1000, false),
            ("users:x:100:\n", 100, 1001, false),
            ("root:x:0:\n", 0, 0, false),
            ("", 1000, 1000, false),
            ("nonsense\nalice:x:1000\n", 1000, 1000, true),
        ] {
            assert_eq!(holds_only(PASSWD, groups, group, user), expected, "{groups:?} {group} {user}");
        }
        assert!(!holds_only("", "alice:x:1000:\n", 1000, 1000), "a user who is not listed");
    }
}
