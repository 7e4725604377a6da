//! What a script leads to: its interpreter, and every program and unit whose name is a word of it.

use super::references::References;

/// The references of a text that starts with `#!`.
pub fn references(text: &str) -> References {
    let mut references = References::default();
    let (interpreter, rest) = text.strip_prefix("#!").unwrap_or(text).split_once('\n').unwrap_or((text, ""));
    interpreter.split_whitespace().for_each(|word| references.add_word(word));
    for line in rest.lines().filter(|line| !line.trim_start().starts_with('#')) {
        words(line).for_each(|word| references.add_word(word));
    }
    references
}

/// The words of a line of shell text: what is between characters that no program's path has.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let separates = |character: char| !character.is_ascii_alphanumeric() && !"_./+-[@".contains(character);
    line.split(separates).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_code_count_and_those_of_comments_do_not() {
        let references = references(
            "#!/usr/bin/env bash -e\n# uses awk\n[ -x /sbin/dump ] && x=$(sed -e 's,a,b,')\nsystemctl start a-b.service\n",
        );
        assert!(references.units.contains("a-b.service"));
        assert!(references.paths.contains("/usr/bin/env") && references.paths.contains("/sbin/dump"));
        for program in ["bash", "[", "sed"] {
            assert!(references.programs.contains(program), "{program}");
        }
        assert!(!references.programs.contains("awk"));
    }
}
