//! The licences of a Debian package: the text of its `copyright` file in, one expression out.
//!
//! Machine-readable files name the licence of every group of files; others are not guessed at.

use std::collections::BTreeSet;

/// What is said of a package whose copyright file names no licence by its short name.
const UNKNOWN: &str = "LicenseRef-Debian-copyright";

/// Debian's short names that SPDX spells another way.
const SPDX: [(&str, &str); 9] = [
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-3", "GPL-3.0-only"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
    ("Expat", "MIT"),
];

/// The licences named in a `copyright` file, joined by `AND`.
pub fn expression(copyright: &str) -> String {
    let fields = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    let names: BTreeSet<String> = fields.map(str::trim).filter(|name| !name.is_empty()).map(identifier).collect();
    if names.is_empty() { UNKNOWN.to_owned() } else { names.into_iter().collect::<Vec<_>>().join(" AND ") }
}

fn identifier(short_name: &str) -> String {
    if let Some((_, spdx)) = SPDX.iter().find(|(debian, _)| *debian == short_name) {
        return (*spdx).to_owned();
    }
    let plain: String = short_name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || ".-".contains(character) { character } else { '-' })
        .collect();
    format!("LicenseRef-Debian-{plain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_one_sorted_expression() {
        let text = "Files: *\nLicense: LGPL-2.1+\n text\n\nFiles: a\nLicense: Expat\n\nLicense: LGPL-2.1+\n";
        assert_eq!(expression(text), "LGPL-2.1-or-later AND MIT");
        assert_eq!(expression("License: GPL-2 or public domain\n"), "LicenseRef-Debian-GPL-2-or-public-domain");
    }

    #[test]
    fn a_free_text_is_not_guessed_at() {
        assert_eq!(expression("This package may be used freely."), UNKNOWN);
    }
}
