//! Names, patterns and places that a definition, a lock, a repository or a command line gives, each with its grammar.
//!
//! They become arguments and settings of dnf, lines that a script reads, and names of files: what is not of the grammar could be
//! an option, a further line, or a path to elsewhere. So each is checked where it enters, and the message names what it may be.

mod nevra;
mod package;
mod place;
mod text;

pub use nevra::Nevra;
pub use package::{PackageGlob, PackageName, PackageSpec};
pub use place::{Place, check_address, is_below};
pub use text::{
    FileGlob, KernelVersion, ProfileName, ReleaseVersion, RepositoryId, UnitName, check_image_name, check_line,
    line_lists, lines,
};

use anyhow::{Result, ensure};

use ocinitrd_format::text::quoted;

/// Longer names occur nowhere, and fit into no file name.
const NAME_MAX_BYTES: usize = 200;

/// A type for text of one grammar: it is made by `FromStr`, also when a file is read, and is text otherwise.
macro_rules! text_type {
    ($(#[$documentation:meta])* $name:ident, $check:path) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, serde::Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = anyhow::Error;

            fn try_from(text: String) -> anyhow::Result<Self> {
                $check(&text)?;
                Ok($name(text))
            }
        }

        impl std::str::FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> anyhow::Result<Self> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}
use text_type;

/// Refuses text that has other characters than ASCII letters, digits and `others`, does not begin with a letter, a digit or one of
/// `first`, or is longer than a name is. `what` it is to be, with its article, is for the message.
fn check_characters(text: &str, what: &str, first: &str, others: &str) -> Result<()> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    let begins = text.chars().next().is_some_and(|one| one.is_ascii_alphanumeric() || first.contains(one));
    ensure!(
        begins && text.chars().all(is_allowed),
        "{} is not {what}: it has letters, digits and \"{others}\", and begins with {}",
        quoted(text.as_bytes()),
        if first.is_empty() {
            "a letter or a digit".to_owned()
        } else {
            format!("a letter, a digit or one of \"{first}\"")
        }
    );
    ensure!(
        text.len() <= NAME_MAX_BYTES,
        "{} is not {what}: it has more than {NAME_MAX_BYTES} characters",
        quoted(text.as_bytes())
    );
    Ok(())
}
