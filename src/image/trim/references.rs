//! What a file leads to, by names.

use std::collections::BTreeSet;

use super::unit;

/// The names in a file that may be those of other files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct References {
    /// Absolute paths.
    pub paths: BTreeSet<String>,
    /// Programs without a directory.
    pub programs: BTreeSet<String>,
    /// Shared libraries by the names that they are loaded by.
    pub libraries: BTreeSet<String>,
    /// Units, also instances of templates.
    pub units: BTreeSet<String>,
}

impl References {
    /// Adds a word of a text: a path, or a name that may be that of a program or a unit.
    pub fn add_word(&mut self, word: &str) {
        if word.starts_with('/') {
            self.paths.insert(word.to_owned());
        } else if !word.is_empty() && !word.contains('/') {
            self.programs.insert(word.to_owned());
            if unit::is_unit(word) {
                self.units.insert(unit::without_specifiers(word));
            }
        }
    }
}
