//! Text from outside, such as names in an archive, made safe to show: it cannot steer a terminal, fake a line or change the
//! direction of what follows.

use std::borrow::Cow;
use std::fmt::{self, Write};

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

/// Control characters, line and paragraph separators, characters without width, and those that set the direction of text.
fn acts_on_terminals(character: char) -> bool {
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
    fn long_text_is_shortened_in_messages() {
        assert_eq!(quoted(b"a\nb"), "\"a\\x0ab\"");
        assert_eq!(quoted(&[b'a'; 500]), format!("\"{}...\"", "a".repeat(120)));
    }
}
