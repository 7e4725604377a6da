//! The names that rules of udev give: the text of a `.rules` file in, links and names out; `udev(7)`.
//!
//! Lines are read as udev itself does (`udev_rules_parse_file` and `parse_line` in systemd's `udev-rules.c`): commas between the
//! pairs are a matter of style, and a line in which one pair cannot be read says nothing at all.

use std::iter::Peekable;
use std::str::Chars;

/// The keys that give names.
const KEYS: [&str; 2] = ["SYMLINK", "NAME"];
/// What udev reads of a line, with those that it goes on with.
const LONGEST_LINE_BYTES: usize = 16 * 1024;
/// What an escape with one character stands for.
const ESCAPES: [(char, char); 11] = [
    ('a', '\x07'),
    ('b', '\x08'),
    ('f', '\x0c'),
    ('n', '\n'),
    ('r', '\r'),
    ('t', '\t'),
    ('v', '\x0b'),
    ('s', ' '),
    ('\\', '\\'),
    ('"', '"'),
    ('\'', '\''),
];

/// A key of a line, with what it has to be or is set to.
struct Pair<'a> {
    key: &'a str,
    operator: &'a str,
    value: String,
}

/// The links that the rules make below `/dev`, and the names that they give to network cards, with `*` for what udev fills in.
pub(super) fn links(text: &str) -> Vec<String> {
    let lines = joined_lines(text);
    let pairs = lines.iter().filter_map(|line| pairs(line)).flatten();
    let given = pairs.filter(|pair| KEYS.contains(&pair.key) && matches!(pair.operator, "+=" | ":=" | "="));
    given.flat_map(|pair| pair.value.split_ascii_whitespace().map(with_stars).collect::<Vec<_>>()).collect()
}

/// The lines with those that they go on with. A comment in between is none of it, whatever it ends in.
fn joined_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => begun += part,
            None => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    lines.retain(|line| line.len() < LONGEST_LINE_BYTES);
    lines
}

/// The pairs of a line; nothing if udev passes over it.
fn pairs(line: &str) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(|character: char| character.is_ascii_whitespace() || character == ',');
        if rest.is_empty() {
            return Some(pairs);
        }
        let (pair, behind) = pair(rest)?;
        pairs.push(pair);
        rest = behind;
    }
}

/// The first pair of a text, and what is behind it.
fn pair(text: &str) -> Option<(Pair<'_>, &str)> {
    let is_end = |(place, character): &(usize, char)| {
        character.is_ascii_whitespace()
            || "={".contains(*character)
            || ("+-!:".contains(*character) && text[place + 1..].starts_with('='))
    };
    let (end, _) = text.char_indices().find(is_end)?;
    let (key, mut rest) = text.split_at(end);
    let has_attribute = rest.starts_with('{');
    if has_attribute {
        rest = rest.split_once('}')?.1;
    }
    rest = rest.trim_ascii_start();
    let operator = ["==", "!=", "+=", "-=", "=", ":="].into_iter().find(|operator| rest.starts_with(operator))?;
    rest = rest[operator.len()..].trim_ascii_start();
    let prefix = &rest[..rest.find('"')?];
    let (is_escaped, is_case_insensitive) = match prefix {
        "" => (false, false),
        "e" => (true, false),
        "i" => (false, true),
        "ei" | "ie" => (true, true),
        _ => return None,
    };
    let (value, behind) = value(&rest[prefix.len() + 1..], is_escaped)?;
    let is_valid = match (key, operator) {
        // Only what is compared can be compared whatever its case.
        (_, "+=" | "-=" | "=" | ":=") if is_case_insensitive => false,
        ("NAME", "-=") => false,
        (key, _) => !(has_attribute && KEYS.contains(&key)),
    };
    is_valid.then_some((Pair { key, operator, value }, behind))
}

/// A value up to the quotation mark at its end, and what is behind that.
fn value(text: &str, is_escaped: bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\\' if is_escaped => value.push(unescaped(&mut rest)?),
            '\\' if rest.as_str().starts_with('"') => value.extend(rest.next()),
            character => value.push(character),
        }
    }
}

/// What the characters behind a backslash stand for, as in C.
fn unescaped(rest: &mut Chars<'_>) -> Option<char> {
    let (digits, radix) = match rest.as_str().chars().next()? {
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='7' => (3, 8),
        other => {
            rest.next();
            return ESCAPES.iter().find(|(escape, _)| *escape == other).map(|(_, character)| *character);
        }
    };
    if radix == 16 {
        rest.next();
    }
    let code = rest.as_str().get(..digits).and_then(|digits| u32::from_str_radix(digits, radix).ok())?;
    *rest = rest.as_str()[digits..].chars();
    char::from_u32(code).filter(|character| *character != '\0')
}

/// The value with `*` in the place of `$env{ID}`, `%k` and the like.
fn with_stars(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '$' | '%' if rest.peek() == Some(&character) => text.extend(rest.next()),
            '$' => {
                while rest.next_if(char::is_ascii_lowercase).is_some() {}
                skip_braces(&mut rest);
                text.push('*');
            }
            '%' => {
                rest.next();
                skip_braces(&mut rest);
                text.push('*');
            }
            _ => text.push(character),
        }
    }
    text
}

fn skip_braces(rest: &mut Peekable<Chars<'_>>) {
    if rest.next_if_eq(&'{').is_some() {
        while rest.next().is_some_and(|character| character != '}') {}
    }
}

/// Whether a name is what a pattern with `*` stands for.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_names_are_what_rules_assign() {
        let text = "# SYMLINK+=\"no\"\nKERNEL==\"sd*\", ENV{A}==\"x,y\", \\\n  SYMLINK+=\"root-disk bay/$env{BAY}%n\"\n\
                    SUBSYSTEM==\"net\", ATTR{address}==\"1\", NAME=\"lan0\"\nNAME==\"eth0\", RUN+=\"x\"\n\
                    SYMLINK-=\"gone\"\nSYMLINK:=\"fixed$$\"\n";
        assert_eq!(links(text), ["root-disk", "bay/**", "lan0", "fixed$"]);
    }

    #[test]
    fn pairs_need_no_commas_and_lines_go_on_over_comments() {
        for (text, expected) in [
            ("KERNEL==\"sda\" SYMLINK+=\"a\"  NAME=\"b\"\n", &["a", "b"][..]),
            ("KERNEL==\"sda\"SYMLINK+=\"a\",,\n", &["a"]),
            (" ,SYMLINK += \"a\" , GROUP=\"x\"\n", &["a"]),
            ("KERNEL==\"sda\", \\\n# SYMLINK+=\"no\" \\\n  SYMLINK+=\"a\"\n", &["a"]),
            ("SYMLINK+=\"a\\\n  b\"\n", &["ab"]),
            ("SYMLINK+=\"a\" \\", &[]),
        ] {
            assert_eq!(links(text), expected, "{text}");
        }
    }

    #[test]
    fn values_may_have_prefixes_and_escapes() {
        for (text, expected) in [
            ("KERNEL==i\"SDA\", SYMLINK+=e\"a\\x2fb\\tc \\U0001f600\"", &["a/b", "c", "\u{1f600}"][..]),
            ("KERNEL==ei\"a\\\"b\", SYMLINK+=\"a\\x2fb\"", &["a\\x2fb"]),
            ("ENV{A}==\"x \\\"SYMLINK+=y\", SYMLINK+=\"a\"", &["a"]),
            // A line with a pair that cannot be read is none.
            ("SYMLINK+=\"a\", KERNEL==x\"b\"", &[]),
            ("SYMLINK+=\"a\", KERNEL==\"b", &[]),
            ("SYMLINK+=\"a\", KERNEL", &[]),
            ("SYMLINK+=i\"a\"", &[]),
            ("SYMLINK+=e\"a\\q\"", &[]),
            ("SYMLINK{x}+=\"a\"", &[]),
            ("NAME-=\"a\", SYMLINK+=\"b\"", &[]),
        ] {
            assert_eq!(links(text), expected, "{text}");
        }
    }

    #[test]
    fn what_udev_fills_in_may_be_anything() {
        for (pattern, name, expected) in [
            ("rootdisk", "rootdisk", true),
            ("rootdisk", "rootdisk2", false),
            ("bay/*", "bay/2", true),
            ("bay/*-part*", "bay/2-part1", true),
            ("bay/*-part*", "bay/2", false),
            ("*", "sda", true),
            ("*-root", "x-root", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
