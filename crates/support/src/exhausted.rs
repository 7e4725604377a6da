//! What this machine has run out of: an error's cause that is neither the network's, nor a package's, nor dnf's.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

/// What there is no more of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exhausted {
    /// Open files, of a process or of the machine.
    Files,
    /// Processes or threads.
    Processes,
    /// Memory.
    Memory,
    /// Room on a disk, or a user's share of it.
    Room,
}

/// The words of the C library for it, in the language that steps run in.
const WORDS: [(&str, Exhausted); 6] = [
    ("Too many open files", Exhausted::Files),
    ("Cannot allocate memory", Exhausted::Memory),
    ("MemoryError", Exhausted::Memory),
    ("No space left on device", Exhausted::Room),
    ("Disk quota exceeded", Exhausted::Room),
    ("fork: Resource temporarily unavailable", Exhausted::Processes),
];

impl Exhausted {
    /// What a failed system call says.
    pub fn of(error: &io::Error) -> Option<Self> {
        match (Errno::from_io_error(error), error.kind()) {
            (Some(Errno::MFILE | Errno::NFILE), _) => Some(Exhausted::Files),
            (Some(Errno::NOMEM), _) | (_, io::ErrorKind::OutOfMemory) => Some(Exhausted::Memory),
            (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(Exhausted::Room),
            _ => None,
        }
    }

    /// What an error was caused by, if by this.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let Some(failed) = error.downcast_ref::<io::Error>() else {
            return error.source().and_then(Exhausted::find);
        };
        // What an io::Error was made of is not its source.
        Exhausted::of(failed).or_else(|| failed.get_ref().and_then(|inner| Exhausted::find(inner)))
    }

    /// What a program complains of, if of this.
    pub fn in_log(log: &str) -> Option<Self> {
        WORDS.iter().find(|(words, _)| log.contains(words)).map(|(_, exhausted)| *exhausted)
    }
}

/// What there is no more of, and what to do.
impl fmt::Display for Exhausted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Exhausted::Files => {
                "too many files are open: allow more (ulimit -n, ulimit -Hn, LimitNOFILE= of a service)"
            }
            Exhausted::Processes => "there are too many processes: allow more (ulimit -u, TasksMax= of a service)",
            Exhausted::Memory => "there is not enough memory: free some, or allow more (MemoryMax= of a service)",
            Exhausted::Room => "there is no room left on a disk: make some",
        })
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn limits_of_the_machine_are_found_below_other_errors() {
        for (errno, expected) in [
            (Errno::MFILE, Some(Exhausted::Files)),
            (Errno::NFILE, Some(Exhausted::Files)),
            (Errno::NOMEM, Some(Exhausted::Memory)),
            (Errno::NOSPC, Some(Exhausted::Room)),
            (Errno::DQUOT, Some(Exhausted::Room)),
            (Errno::CONNREFUSED, None),
        ] {
            let nested = Err::<(), _>(error(errno)).context("connecting").context("fetching").unwrap_err();
            assert_eq!(Exhausted::find(nested.as_ref()), expected, "{errno}");
        }
        let nested = io::Error::other(io::Error::other(error(Errno::MFILE)));
        assert_eq!(Exhausted::find(&nested), Some(Exhausted::Files));
        let wrapped = io::Error::new(io::ErrorKind::StorageFull, "writing a file: No space left");
        assert_eq!(Exhausted::of(&wrapped), Some(Exhausted::Room));
    }

    #[test]
    fn programs_complain_in_the_words_of_the_c_library() {
        let text = |errno: Errno| format!("error: open of a.rpm failed: {}\n", error(errno));
        assert_eq!(Exhausted::in_log(&text(Errno::MFILE)), Some(Exhausted::Files));
        assert_eq!(Exhausted::in_log(&text(Errno::NOMEM)), Some(Exhausted::Memory));
        assert_eq!(Exhausted::in_log(&text(Errno::NOSPC)), Some(Exhausted::Room));
        assert_eq!(Exhausted::in_log("No match for argument: a\n"), None);
    }
}
