//! What tells one package from another: name, epoch, version, release and architecture.

use std::fmt;

use anyhow::{Result, ensure};

use super::check_characters;
use ocinitrd_format::text::quoted;

/// What rpm itself allows in names, and in versions and releases.
const NAME_CHARACTERS: &str = "._+-";
const VERSION_CHARACTERS: &str = "._+~^";

/// A package's name, epoch, version, release and architecture.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Nevra<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its epoch; 0 if it has none.
    pub epoch: u32,
    /// Upstream's version.
    pub version: &'a str,
    /// The distribution's release.
    pub release: &'a str,
    /// Its architecture, such as `x86_64` or `noarch`.
    pub arch: &'a str,
}

impl Nevra<'_> {
    /// Refuses parts that are not of rpm's grammar: the text of what passes is one word, a part of a file name, and never an
    /// option, and no two packages have the same.
    ///
    /// # Errors
    /// Fails naming the part.
    pub fn check(&self) -> Result<()> {
        check_package_name(self.name)?;
        for (part, what) in [(self.version, "the version of a package"), (self.release, "the release of a package")] {
            check_characters(part, what, "", VERSION_CHARACTERS)?;
        }
        check_characters(self.arch, "the architecture of a package", "", "_")
    }

    /// Refuses a package that is another than this one: `found`, where this one was `expected`.
    ///
    /// # Errors
    /// Fails naming both.
    pub fn expect(&self, found: Nevra<'_>) -> Result<()> {
        ensure!(
            *self == found,
            "the rpm file that is listed as {self} is that of another package, {}",
            quoted(found.to_string().as_bytes())
        );
        Ok(())
    }
}

pub(super) fn check_package_name(name: &str) -> Result<()> {
    check_characters(name, "the name of a package", "_", NAME_CHARACTERS)
}

/// `name-[epoch:]version-release.arch`, as libsolv writes it: an epoch of 0 is left out.
impl fmt::Display for Nevra<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nevra { name, epoch, version, release, arch } = self;
        match epoch {
            0 => write!(formatter, "{name}-{version}-{release}.{arch}"),
            epoch => write!(formatter, "{name}-{epoch}:{version}-{release}.{arch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASH: Nevra<'_> = Nevra { name: "bash", epoch: 0, version: "5.2", release: "1.fc44", arch: "x86_64" };

    #[test]
    fn an_epoch_of_zero_is_left_out() {
        assert_eq!(BASH.to_string(), "bash-5.2-1.fc44.x86_64");
        assert_eq!(Nevra { epoch: 2, ..BASH }.to_string(), "bash-2:5.2-1.fc44.x86_64");
    }

    #[test]
    fn parts_that_are_options_paths_or_several_words_are_refused() {
        for good in [
            BASH,
            Nevra { name: "libstdc++", version: "1.2~rc1^git3", release: "0+deb13u1", ..BASH },
            Nevra { name: "_x.y-z", ..BASH },
        ] {
            good.check().unwrap();
        }
        for bad in [
            Nevra { name: "-x", ..BASH },
            Nevra { name: "..", ..BASH },
            Nevra { name: "", ..BASH },
            Nevra { name: "a/b", ..BASH },
            Nevra { name: "a b", ..BASH },
            Nevra { name: "a\n", ..BASH },
            Nevra { name: "*", ..BASH },
            Nevra { version: "1-2", ..BASH },
            Nevra { version: "1:2", ..BASH },
            Nevra { release: "../1", ..BASH },
            Nevra { release: "", ..BASH },
            Nevra { arch: "x86_64.rpm /etc", ..BASH },
            Nevra { arch: "x86.64", ..BASH },
            Nevra { name: &"a".repeat(201), ..BASH },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        let message = Nevra { name: "a\nb", ..BASH }.check().unwrap_err().to_string();
        assert!(message.starts_with("\"a\\x0ab\" is not the name of a package: it has letters"), "{message}");
    }

    #[test]
    fn another_package_is_told_by_any_part() {
        BASH.expect(BASH).unwrap();
        for other in [
            Nevra { name: "dash", ..BASH },
            Nevra { epoch: 1, ..BASH },
            Nevra { version: "5.1", ..BASH },
            Nevra { release: "2.fc44", ..BASH },
            Nevra { arch: "noarch", ..BASH },
        ] {
            let message = BASH.expect(other).unwrap_err().to_string();
            assert!(message.ends_with(&format!("another package, \"{other}\"")), "{message}");
        }
    }
}
