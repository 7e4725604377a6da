//! Debian control files: text in, paragraphs and dependency alternatives out (deb822(5), deb-control(5)).

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// The fields of one paragraph, by lower-case name; folded values keep their line breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph(BTreeMap<String, String>);

impl Paragraph {
    /// Reads one paragraph; lines that are neither field nor continuation are an error.
    ///
    /// # Errors
    /// Fails on a line without a colon, and on a continuation line before any field.
    pub fn parse(text: &str) -> Result<Paragraph> {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut current: Option<String> = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                match current.as_ref().and_then(|name| fields.get_mut(name)) {
                    Some(value) => {
                        value.push('\n');
                        value.push_str(line.trim());
                    }
                    None => bail!("reading a control file: the line {line:?} continues no field"),
                }
            } else if let Some((name, value)) = line.split_once(':') {
                let name = name.to_ascii_lowercase();
                fields.insert(name.clone(), value.trim().to_owned());
                current = Some(name);
            } else if !line.trim().is_empty() {
                bail!("reading a control file: the line {line:?} is no field");
            }
        }
        Ok(Paragraph(fields))
    }

    /// A field's value, by its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// The alternatives of a dependency field; none where the field is absent.
    ///
    /// # Errors
    /// Fails when the field does not follow the grammar.
    pub fn relations(&self, name: &str) -> Result<Vec<Vec<Relation>>> {
        parse_relations(self.get(name).unwrap_or_default())
    }
}

/// The text of each paragraph of a control file.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty())
}

/// One package name in a dependency field, perhaps with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The package's name without an architecture qualifier.
    pub package: String,
    /// The operator (`<<`, `<=`, `=`, `>=`, `>>`) and the Debian version.
    pub version: Option<(String, String)>,
}

/// Reads `a (>= 1) | b, c`: the outer list is joined by "and", the inner by "or".
///
/// # Errors
/// Fails on an unclosed parenthesis and on an operator that deb-control(5) does not have.
pub fn parse_relations(field: &str) -> Result<Vec<Vec<Relation>>> {
    field
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(|group| group.split('|').map(|relation| parse_relation(relation.trim())).collect())
        .collect()
}

fn parse_relation(text: &str) -> Result<Relation> {
    let (name, condition) = match text.split_once('(') {
        Some((name, rest)) => match rest.split_once(')') {
            Some((condition, _)) => (name.trim(), Some(condition.trim())),
            None => bail!("reading the dependency {text:?}: its parenthesis is not closed"),
        },
        None => (text, None),
    };
    let package = name.split(':').next().unwrap_or(name).to_owned();
    let Some(condition) = condition else { return Ok(Relation { package, version: None }) };
    let (operator, version) = condition.split_at(condition.len() - condition.trim_start_matches(['<', '=', '>']).len());
    if !["<<", "<=", "=", ">=", ">>"].contains(&operator) {
        bail!("reading the dependency {text:?}: {operator:?} is no operator");
    }
    Ok(Relation { package, version: Some((operator.to_owned(), version.trim().to_owned())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_keeps_folded_values() {
        let paragraph = Paragraph::parse("Package: bash\nDescription: shell\n long text\n .\n more\nEssential:yes\n");
        let paragraph = paragraph.unwrap();
        assert_eq!(paragraph.get("package"), Some("bash"));
        assert_eq!(paragraph.get("Description"), Some("shell\nlong text\n.\nmore"));
        assert_eq!(paragraph.get("ESSENTIAL"), Some("yes"));
        assert_eq!(paragraph.get("Depends"), None);
    }

    #[test]
    fn a_line_that_belongs_to_no_field_is_refused() {
        assert!(Paragraph::parse(" folded\n").is_err());
        assert!(Paragraph::parse("Package bash\n").is_err());
    }

    #[test]
    fn paragraphs_are_split_at_empty_lines() {
        assert_eq!(paragraphs("A: 1\nB: 2\n\n\nA: 3\n").collect::<Vec<_>>(), ["A: 1\nB: 2", "A: 3"]);
    }

    #[test]
    fn alternatives_versions_and_qualifiers_are_read() {
        let relations = parse_relations("libc6 (>= 2.38), initramfs-tools | dracut (<<1:2-3~), perl:any").unwrap();
        let plain = |package: &str| Relation { package: package.to_owned(), version: None };
        let versioned = |package: &str, operator: &str, version: &str| Relation {
            package: package.to_owned(),
            version: Some((operator.to_owned(), version.to_owned())),
        };
        assert_eq!(
            relations,
            [
                vec![versioned("libc6", ">=", "2.38")],
                vec![plain("initramfs-tools"), versioned("dracut", "<<", "1:2-3~")],
                vec![plain("perl")],
            ]
        );
    }

    #[test]
    fn a_broken_dependency_is_refused() {
        assert!(parse_relations("a (>= 1").is_err());
        assert!(parse_relations("a (~ 1)").is_err());
    }
}
