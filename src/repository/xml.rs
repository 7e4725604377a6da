//! XML as repositories use it: names without their namespace prefix, text with its entities resolved.

use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::{Context, Result, bail};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Deeper nesting occurs in no metadata, and would only exhaust the stack.
const DEPTH_MAX: u32 = 32;

/// An element with everything in it: for small documents, and for small parts of big ones.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// The local name.
    pub name: String,
    /// Values by local name.
    pub attributes: BTreeMap<String, String>,
    /// The text directly inside, without the white space around it.
    pub text: String,
    /// The elements directly inside, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// The elements of that name directly inside.
    pub(super) fn children<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element of that name directly inside.
    ///
    /// # Errors
    /// Fails when there is none.
    pub(super) fn child(&self, name: &str) -> Result<&Element> {
        let child = self.children.iter().find(|child| child.name == name);
        child.with_context(|| format!("<{}> has no <{name}>", self.name))
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// Fails when there is none.
    pub(super) fn attribute(&self, name: &str) -> Result<&str> {
        let value = self.attributes.get(name);
        value.map(String::as_str).with_context(|| format!("<{}> has no {name}=", self.name))
    }

    /// The value of an attribute that is a number.
    ///
    /// # Errors
    /// Fails when there is none or it is no number.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let value = self.attribute(name)?;
        value.parse().with_context(|| format!("<{}> has {name}={value:?}, which is no number", self.name))
    }
}

/// Parses a small document with the root element `root`.
///
/// # Errors
/// Fails on what is not well-formed, is cut off, or has another root.
pub(super) fn parse(bytes: &[u8], root: &str) -> Result<Element> {
    let mut reader = Reader::from_reader(bytes);
    let mut buffer = Vec::new();
    loop {
        let element = match reader.read_event_into(&mut buffer)? {
            Event::Start(start) => read_element(&mut reader, &start)?,
            Event::Empty(start) => element_of(&start)?,
            Event::Eof => bail!("there is no <{root}>"),
            Event::Text(text) if !text.trim().is_empty() => bail!("it begins with text instead of <{root}>"),
            _ => {
                buffer.clear();
                continue;
            }
        };
        if element.name != root {
            bail!("it is a <{}> instead of a <{root}>", element.name);
        }
        return Ok(element);
    }
}

/// Reads the element whose start tag was just read.
///
/// # Errors
/// Fails on what is not well-formed or cut off.
pub(super) fn read_element<R: BufRead>(reader: &mut Reader<R>, start: &BytesStart<'_>) -> Result<Element> {
    read_nested(reader, start, 0)
}

fn read_nested<R: BufRead>(reader: &mut Reader<R>, start: &BytesStart<'_>, depth: u32) -> Result<Element> {
    let mut element = element_of(start)?;
    if depth == DEPTH_MAX {
        bail!("<{}> is nested deeper than metadata ever is", element.name);
    }
    let mut buffer = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer)? {
            Event::Start(child) => element.children.push(read_nested(reader, &child, depth + 1)?),
            Event::Empty(child) => element.children.push(element_of(&child)?),
            Event::Text(text) => element.text.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(text) => element.text.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(reference) => {
                let escaped = format!("&{};", reference.into_inner());
                element.text.push_str(&quick_xml::escape::unescape(&escaped)?);
            }
            Event::End(_) => break,
            Event::Eof => bail!("it is cut off inside <{}>", element.name),
            _ => {}
        }
        buffer.clear();
    }
    element.text = element.text.trim().to_owned();
    Ok(element)
}

/// The element of a tag, without its content.
///
/// # Errors
/// Fails on malformed attributes.
pub(super) fn element_of(start: &BytesStart<'_>) -> Result<Element> {
    let mut attributes = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
        attributes.insert(local(attribute.key.as_ref()).to_owned(), value);
    }
    Ok(Element { name: local(start.name().as_ref()).to_owned(), attributes, ..Element::default() })
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_entities_and_white_space_are_resolved() {
        let text =
            b"<?xml version=\"1.0\"?>\n<a:root x:href='1&amp;2'> <b>\n R &amp;&#65; <![CDATA[<S>]]>\n</b><c/></a:root>";
        let root = parse(text, "root").unwrap();
        assert_eq!(root.attribute("href").unwrap(), "1&2");
        assert_eq!(root.child("b").unwrap().text, "R &A <S>");
        assert!(root.child("c").unwrap().text.is_empty());
        assert_eq!(root.child("d").unwrap_err().to_string(), "<root> has no <d>");
    }

    #[test]
    fn cut_off_foreign_and_malformed_documents_are_refused() {
        let message = |text: &str| format!("{:#}", parse(text.as_bytes(), "root").unwrap_err());
        assert_eq!(message("<root><b>text"), "it is cut off inside <b>");
        assert_eq!(message("<html></html>"), "it is a <html> instead of a <root>");
        assert_eq!(message(""), "there is no <root>");
        assert_eq!(message("not found"), "it begins with text instead of <root>");
        assert!(message("<root><b></c></root>").contains("</c>"));
        assert!(message("<root>&nosuch;</root>").contains("nosuch"));
        assert!(message(&format!("<root>{}", "<b>".repeat(100))).contains("nested deeper"));
    }
}
