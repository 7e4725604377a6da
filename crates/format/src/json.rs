//! JSON for a terminal or another program: indented, and free of characters that a terminal would act upon.
//!
//! JSON itself asks for escapes of the first 32 characters only. A terminal also acts upon those from U+0080 to U+009F, and text can
//! be turned round by others: these are escaped as `\uNNNN` here, which readers of JSON take for the same.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::text::acts_on_terminals;

/// Writes `value` as indented JSON.
///
/// # Errors
/// Fails when `output` does, and when a value has no form in JSON.
pub fn write(output: &mut (impl Write + ?Sized), value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(output, Plain(PrettyFormatter::new()))).map_err(io::Error::from)
}

/// Returns `value` as indented JSON.
///
/// # Errors
/// Fails when a value has no form in JSON.
pub fn to_string(value: &impl Serialize) -> io::Result<String> {
    let mut text = Vec::new();
    write(&mut text, value)?;
    String::from_utf8(text).map_err(io::Error::other)
}

struct Plain(PrettyFormatter<'static>);

impl Formatter for Plain {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((start, character)) = rest.char_indices().find(|(_, character)| acts_on_terminals(*character)) {
            writer.write_all(&rest.as_bytes()[..start])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[start + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_read_back_as_it_was() {
        let text = "a\u{1b}b\u{9b}2J\u{7f}\u{202e}\u{e0041}\"grüße\"\n";
        let value = serde_json::json!({text: [text, 1, null, {}]});
        let json = to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert!(json.contains(r#""a\u001bb\u009b2J\u007f\u202e\udb40\udc41\"grüße\"\n""#), "{json}");
        assert!(json.chars().all(|character| character == '\n' || !acts_on_terminals(character)));
    }

    #[test]
    fn its_form_is_that_of_serde_json() {
        let value = serde_json::json!({"a": [1, {"b": []}, [[]]], "c": {}});
        assert_eq!(to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap());
    }
}
