//! The names that rules of udev give: the text of a `.rules` file in, links and names out; `udev(7)`.

/// The keys that give names.
const KEYS: [&str; 2] = ["SYMLINK", "NAME"];

/// The links that the rules make below `/dev`, and the names that they give to network cards, with `*` for what udev fills in.
pub(super) fn links(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values = lines.flat_map(assignments).flat_map(|value| value.split_ascii_whitespace().map(with_stars));
    values.collect()
}

/// The values that a line gives to those keys: `SYMLINK+="a b"`.
fn assignments(line: &str) -> impl Iterator<Item = &str> {
    let parts = split_outside_quotes(line);
    parts.filter_map(|part| {
        let rest = KEYS.iter().find_map(|key| part.trim().strip_prefix(key))?;
        let value = ["+=", ":=", "="].iter().find_map(|operator| rest.trim_start().strip_prefix(operator))?;
        value.trim().strip_prefix('"')?.strip_suffix('"')
    })
}

fn split_outside_quotes(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
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

fn skip_braces(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
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
