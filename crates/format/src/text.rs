//! Text from outside, such as names in an archive, made safe to show: it cannot steer a terminal, fake a line or change the
//! direction of what follows.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How many characters of a long text [`quoted`] shows.
const SHOWN_CHARACTERS: usize = 120;

/// Shows bytes as one line of text: UTF-8 as it is, backslashes, all other bytes and each character that a terminal would
/// act upon as `\xNN`.
///
/// Different bytes give different text.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// Shows text.
    pub fn text(text: &'a str) -> Self {
        Escaped(text.as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if acts_on_terminals(character) || character == '\\' {
                    write_escaped(formatter, character)?;
                } else {
                    formatter.write_char(character)?;
                }
            }
            write_bytes(formatter, chunk.invalid())?;
        }
        Ok(())
    }
}

/// Bytes for messages: quoted, made visible as [`Escaped`] does it, shortened after 120 characters.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = Escaped(bytes).to_string();
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARACTERS) {
        text.truncate(end);
        text.push_str("...");
    }
    format!("\"{text}\"")
}

/// Text of several lines for a terminal or a log: line ends and tabs stay, other characters that a terminal would act upon become
/// `\xNN`. It is the last resort, at the place where messages are printed: text from outside that stands in a message has
/// to be [`Escaped`] where the message is made, or it could fake a line.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_plain = |character: char| matches!(character, '\n' | '\t') || !acts_on_terminals(character);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            printable.push(character);
        } else {
            write_escaped(&mut printable, character).expect("a string takes all that is written");
        }
    }
    Cow::Owned(printable)
}

/// Text as one line of a report: each character that a terminal would act upon, also line ends and tabs, becomes `\xNN`. Unlike
/// with [`Escaped`] backslashes stay: what was escaped already is as it was.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_terminals(character) {
            write_escaped(&mut line, character).expect("a string takes all that is written");
        } else {
            line.push(character);
        }
    }
    line
}

/// A message for a terminal or a log, [`printable`], of which every line but the first begins with a blank: whatever text from
/// outside is in it, no line of it looks like a message of its own.
pub fn message(text: &str) -> String {
    let text = printable(text.trim_end_matches('\n'));
    let mut lines = text.split('\n');
    let mut message = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        message.push('\n');
        if !line.is_empty() && !line.starts_with(' ') {
            message.push_str("  ");
        }
        message.push_str(line);
    }
    message
}

/// A line of a program's output as a terminal would leave it: without control sequences, only what follows the last carriage
/// return, and without anything else that a terminal would act upon.
pub fn terminal_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::new();
    let mut characters = text.trim_end_matches(['\n', '\r']).chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => line.clear(),
            '\u{1b}' => skip_sequence(&mut characters),
            '\t' => line.push(character),
            _ if acts_on_terminals(character) => {}
            _ => line.push(character),
        }
    }
    line
}

/// Passes over what follows an escape character: a control sequence up to its last character, a string up to its terminator
/// (ECMA-48, 5.4 and 5.6), else one character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            characters.find(|character| ('@'..='~').contains(character));
        }
        Some(']' | 'P' | '_' | '^' | 'X') => {
            while let Some(character) = characters.next() {
                match character {
                    '\u{7}' | '\u{9c}' => break,
                    '\u{1b}' => {
                        characters.next_if_eq(&'\\');
                        break;
                    }
                    _ => {}
                }
            }
        }
        Some(' '..='~') => {
            characters.next();
        }
        _ => {}
    }
}

/// An error whose message quotes what was read, such as those of parsers: as one line, shortened after 400 characters.
pub fn escaped_error(error: impl fmt::Display) -> anyhow::Error {
    const SHOWN_CHARACTERS: usize = 400;
    let text = error.to_string();
    let mut shown = one_line(text.trim_end());
    if let Some((end, _)) = shown.char_indices().nth(SHOWN_CHARACTERS) {
        shown.truncate(end);
        shown.push_str("...");
    }
    anyhow::Error::msg(shown)
}

/// A path that may hold anything, as one line.
pub fn path(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

/// Control characters, line and paragraph separators, characters without width, and those that set the direction of text.
pub(super) fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn write_escaped(output: &mut impl Write, character: char) -> fmt::Result {
    let mut bytes = [0; 4];
    write_bytes(output, character.encode_utf8(&mut bytes).as_bytes())
}

fn write_bytes(output: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(output, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_and_other_bytes_become_visible() {
        assert_eq!(Escaped("usr/bin/grüß".as_bytes()).to_string(), "usr/bin/grüß");
        assert_eq!(Escaped(b"caf\xe9\n\\").to_string(), "caf\\xe9\\x0a\\x5c");
        assert_eq!(Escaped::text("\u{85}").to_string(), "\\xc2\\x85");
    }

    #[test]
    fn what_steers_a_terminal_or_turns_text_round_becomes_visible() {
        let title = Escaped::text("a\x1b]0;title\x07").to_string();
        assert_eq!(title, "a\\x1b]0;title\\x07");
        for character in ['\u{202e}', '\u{2066}', '\u{2028}', '\u{200b}', '\u{9b}', '\u{feff}'] {
            assert!(Escaped::text(&character.to_string()).to_string().starts_with("\\x"), "{character:?}");
        }
    }

    #[test]
    fn messages_keep_their_lines_and_lose_what_steers_a_terminal() {
        assert!(matches!(printable("one\n\ttwo"), Cow::Borrowed("one\n\ttwo")));
        assert_eq!(printable("one\r\x1b[2Ktwo\n"), "one\\x0d\\x1b[2Ktwo\n");
    }

    #[test]
    fn further_lines_of_a_message_cannot_pass_for_messages() {
        assert_eq!(one_line("one\n\tt\\wo\x1b"), "one\\x0a\\x09t\\wo\\x1b");
        assert_eq!(message("one\nerror: two\x1b[m\n"), "one\n  error: two\\x1b[m");
        assert_eq!(message("one\n\n  two\n\tthree"), "one\n\n  two\n  \tthree");
    }

    #[test]
    fn lines_of_programs_are_what_a_terminal_would_leave() {
        for (line, left) in [
            ("\x1b[1;31mred\x1b[0m\r\n", "red"),
            ("10 %\r20 %\tdone", "20 %\tdone"),
            ("\x1b]0;title\x07a\x1b]8;;http://b\x1b\\c\x1bPq\u{9c}d", "acd"),
            ("\x1bca\x1b", "a"),
            ("a\x1b[", "a"),
            ("a\u{9b}2Jb\u{202e}c\x08", "a2Jbc"),
            ("\x1b\u{e9}", "\u{e9}"),
        ] {
            assert_eq!(terminal_line(line.as_bytes()), left, "{line:?}");
        }
    }

    #[test]
    fn errors_that_quote_what_was_read_are_one_short_line() {
        let error = serde_json::from_str::<u8>(&format!("{:?}", "\n".repeat(1000))).unwrap_err();
        let text = escaped_error(error).to_string();
        assert!(text.starts_with("invalid type: string ") && !text.contains('\n') && text.ends_with("..."), "{text}");
        assert_eq!(text.chars().count(), 403);
        assert_eq!(path(Path::new("a\nb")).to_string(), "a\\x0ab");
    }

    #[test]
    fn long_text_is_shortened_in_messages() {
        assert_eq!(quoted(b"a\nb"), "\"a\\x0ab\"");
        assert_eq!(quoted(&[b'a'; 500]), format!("\"{}...\"", "a".repeat(120)));
    }
}
