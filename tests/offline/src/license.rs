//! The licences of a Debian package: the text of its `copyright` file in, one expression out.
//!
//! Machine-readable files name the licence of every group of files; others are not guessed at.

use std::collections::BTreeSet;

/// What is said of a package whose copyright file names no licence by its short name.
const UNKNOWN: &str = "LicenseRef-Debian-copyright";

/// Debian's short names that SPDX spells another way.
const SPDX: [(&str, &str); 8] = [
    ("Apache-2.0", "Apache-2.0"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("CC0-1.0", "CC0-1.0"),
    ("Expat", "MIT"),
    ("ISC", "ISC"),
    ("MIT", "MIT"),
    ("Zlib", "Zlib"),
];

/// The licences named in a `copyright` file, joined by `AND`.
pub fn expression(copyright: &str) -> String {
    let fields = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    let names: BTreeSet<String> = fields
        .flat_map(|field| field.split(" and "))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(choice)
        .collect();
    if names.is_empty() { UNKNOWN.to_owned() } else { names.into_iter().collect::<Vec<_>>().join(" AND ") }
}

/// `GPL-2+ or Expat`: one of several.
fn choice(names: &str) -> String {
    let names: Vec<String> = names.split(" or ").map(identifier).collect();
    if names.len() == 1 { names.concat() } else { format!("({})", names.join(" OR ")) }
}

fn identifier(short_name: &str) -> String {
    let short_name = short_name.trim_matches([' ', ',']);
    if let Some((_, spdx)) = SPDX.iter().find(|(debian, _)| *debian == short_name) {
        return (*spdx).to_owned();
    }
    if let Some(gnu) = gnu_identifier(short_name) {
        return gnu;
    }
    let plain: String = short_name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || ".-".contains(character) { character } else { '-' })
        .collect();
    format!("LicenseRef-Debian-{plain}")
}

/// `LGPL-2.1+` as `LGPL-2.1-or-later`, `GPL-3` as `GPL-3.0-only`.
fn gnu_identifier(short_name: &str) -> Option<String> {
    let (family, version) = short_name.split_once('-')?;
    let (number, scope) = match version.strip_suffix('+') {
        Some(number) => (number, "or-later"),
        None => (version, "only"),
    };
    let is_number = number.chars().all(|character| character.is_ascii_digit() || character == '.');
    if !["GPL", "LGPL", "AGPL", "GFDL"].contains(&family) || !is_number {
        return None;
    }
    let point = if number.contains('.') { "" } else { ".0" };
    Some(format!("{family}-{number}{point}-{scope}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_one_sorted_expression() {
        let text = "Files: *\nLicense: LGPL-2.1+\n text\n\nFiles: a\nLicense: Expat\n\nLicense: LGPL-2.1+\n";
        assert_eq!(expression(text), "LGPL-2.1-or-later AND MIT");
        assert_eq!(expression("License: GPL-2, and BSD-3-clause\n"), "BSD-3-Clause AND GPL-2.0-only");
        assert_eq!(expression("License: GPL-1+ or Artistic\n"), "(GPL-1.0-or-later OR LicenseRef-Debian-Artistic)");
        assert_eq!(expression("License: GPL-2+ with exception\n"), "LicenseRef-Debian-GPL-2--with-exception");
    }

    #[test]
    fn a_free_text_is_not_guessed_at() {
        assert_eq!(expression("This package may be used freely."), UNKNOWN);
    }
}
