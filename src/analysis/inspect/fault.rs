//! What the kernel does not make of an entry as it stands there, and why.

use std::fmt;

/// Why the kernel leaves an entry out, or makes something else of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Fault {
    NoParent,
    ParentIsNoDirectory,
    TooManySymlinks,
    NameTooLong,
    PathTooLong,
    Dots,
    TrailingSlash,
    DirectoryInTheWay,
    SymlinkInTheWay,
    DataOfNoFile,
    TargetTooLong,
    UnknownType,
    NothingToLinkTo,
    OwnerIsNone,
    DeviceNumbers,
    DeviceIsThere,
}

impl Fault {
    /// Whether the kernel makes the entry, and not as it is.
    fn is_change(self) -> bool {
        matches!(self, Fault::OwnerIsNone | Fault::DeviceNumbers | Fault::DeviceIsThere)
    }

    /// What the kernel does with the entry of that name and with so many others.
    pub(super) fn message(self, path: &dyn fmt::Display, others: u64) -> String {
        let verb = if self.is_change() { "change" } else { "drop" };
        let others = match others {
            0 => String::new(),
            others => format!(", and so {others} more"),
        };
        format!("in this segment the kernel would {verb} the entry {path}{others}: {self}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Fault::NoParent => "no entry before it makes its parent directory",
            Fault::ParentIsNoDirectory => "what is in the place of its parent directory is no directory",
            Fault::TooManySymlinks => "more than 40 symlinks are on the way to it",
            Fault::NameTooLong => "a part of its path has more than 255 bytes",
            Fault::PathTooLong => {
                "where the symlinks on the way lead, its path has more than 4095 bytes, and no program could name it"
            }
            Fault::Dots => {
                "its name is that of a directory itself, and it is no directory, or the directory is not there"
            }
            Fault::TrailingSlash => "its name ends in a slash, and it is no directory",
            Fault::DirectoryInTheWay => "a directory that is not empty is in its place",
            Fault::SymlinkInTheWay => {
                "its name ends in a slash, and a symlink or file that is no directory is in its place"
            }
            Fault::DataOfNoFile => "it has data, and is neither a file nor a symlink",
            Fault::TargetTooLong => "the target of the symlink has more than 4095 bytes",
            Fault::UnknownType => "its mode has no file type that the kernel knows; what is in its place is removed",
            Fault::NothingToLinkTo => "the file that it is another name of, by its inode number, is not there",
            Fault::OwnerIsNone => "the user or group 4294967295 is none: the owner stays root, or who it was before",
            Fault::DeviceNumbers => "major numbers of devices go up to 4095, minor ones up to 1048575",
            Fault::DeviceIsThere => "a device with other numbers is there already, and keeps them",
        })
    }
}
