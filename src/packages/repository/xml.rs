//! XML as repositories use it: names without their namespace prefix, text with its entities resolved.
//!
//! Whoever wrote it may mean harm: what is kept in memory of one event, of one element, and of all is bounded.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use anyhow::{Context, Result, bail, ensure};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use ocinitrd_format::text::{escaped_error, quoted};

/// Deeper nesting occurs in no metadata, and would only exhaust the stack.
const DEPTH_MAX: u32 = 32;

/// 1 MiB: a tag, or a text without a tag in it. Descriptions of packages have some kilobytes.
const EVENT_MAX_BYTES: u64 = 1 << 20;
/// 64 MiB: an element with everything in it. The greatest package, a kernel that lists its symbols, has three.
const ELEMENT_MAX_BYTES: u64 = 64 << 20;
/// Elements in one that is kept whole. A kernel that lists its symbols has 30,000.
const ELEMENTS_MAX: u32 = 200_000;

/// A reader of events whose memory is bounded.
pub(super) struct Events<R> {
    reader: Reader<Bounded<R>>,
    buffer: Vec<u8>,
}

/// Bytes, up to a limit for each event and one for all.
struct Bounded<R> {
    inner: R,
    limit_bytes: u64,
    total_bytes: u64,
    event_bytes: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let too_long = |what| Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        if self.total_bytes >= self.limit_bytes {
            return too_long(format!("it has more than {} bytes when it is decompressed", self.limit_bytes));
        }
        if self.event_bytes >= EVENT_MAX_BYTES {
            return too_long(format!("a tag or text in it has more than {EVENT_MAX_BYTES} bytes"));
        }
        let left = (EVENT_MAX_BYTES - self.event_bytes).min(self.limit_bytes - self.total_bytes);
        let bytes = self.inner.fill_buf()?;
        Ok(&bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.event_bytes += count as u64;
        self.total_bytes += count as u64;
    }
}

impl<R: BufRead> Events<R> {
    /// Reads events from `inner`, which has at most `limit_bytes`.
    pub(super) fn of(inner: R, limit_bytes: u64) -> Self {
        let bounded = Bounded { inner, limit_bytes, total_bytes: 0, event_bytes: 0 };
        Events { reader: Reader::from_reader(bounded), buffer: Vec::new() }
    }

    /// The next event.
    ///
    /// # Errors
    /// Fails on what is not well-formed, and beyond a limit.
    pub(super) fn next(&mut self) -> Result<Event<'_>> {
        self.buffer.clear();
        self.reader.get_mut().event_bytes = 0;
        self.reader.read_event_into(&mut self.buffer).map_err(escaped_error)
    }

    /// Skips what is left of the element whose start tag was just read.
    ///
    /// # Errors
    /// As [`Events::next`], and on what is cut off.
    pub(super) fn skip(&mut self) -> Result<()> {
        let mut open = 1_u64;
        while open > 0 {
            match self.next()? {
                Event::Start(_) => open += 1,
                Event::End(_) => open -= 1,
                Event::Eof => bail!("it is cut off"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the rest of an element, of which the start tag was read.
    ///
    /// # Errors
    /// Fails on what is not well-formed, cut off, or beyond a limit.
    pub(super) fn element(&mut self, start: Element) -> Result<Element> {
        let mut kept =
            Kept { end_bytes: self.reader.get_ref().total_bytes.saturating_add(ELEMENT_MAX_BYTES), elements: 0 };
        self.nested(start, 0, &mut kept)
    }

    fn nested(&mut self, mut element: Element, depth: u32, kept: &mut Kept) -> Result<Element> {
        if depth == DEPTH_MAX {
            bail!("<{}> is nested deeper than metadata ever is", element.shown());
        }
        loop {
            kept.check(self.reader.get_ref().total_bytes)?;
            match self.next()? {
                Event::Start(child) => {
                    kept.elements += 1;
                    let child = element_of(&child)?;
                    element.children.push(self.nested(child, depth + 1, kept)?);
                }
                Event::Empty(child) => {
                    kept.elements += 1;
                    element.children.push(element_of(&child)?);
                }
                Event::Text(text) => element.text.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
                Event::CData(text) => element.text.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
                Event::GeneralRef(reference) => {
                    let escaped = format!("&{};", reference.into_inner());
                    element.text.push_str(&quick_xml::escape::unescape(&escaped).map_err(escaped_error)?);
                }
                Event::End(_) => break,
                Event::Eof => bail!("it is cut off inside <{}>", element.shown()),
                _ => {}
            }
        }
        element.text = element.text.trim().to_owned();
        Ok(element)
    }
}

/// What an element that is kept whole may still cost.
struct Kept {
    end_bytes: u64,
    elements: u32,
}

impl Kept {
    fn check(&self, total_bytes: u64) -> Result<()> {
        ensure!(total_bytes <= self.end_bytes, "an element in it has more than {ELEMENT_MAX_BYTES} bytes");
        ensure!(self.elements <= ELEMENTS_MAX, "an element in it has more than {ELEMENTS_MAX} others in it");
        Ok(())
    }
}

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
    /// Its name, for messages.
    fn shown(&self) -> String {
        quoted(self.name.as_bytes()).trim_matches('"').to_owned()
    }

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
        child.with_context(|| format!("<{}> has no <{name}>", self.shown()))
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// Fails when there is none.
    pub(super) fn attribute(&self, name: &str) -> Result<&str> {
        let value = self.attributes.get(name);
        value.map(String::as_str).with_context(|| format!("<{}> has no {name}=", self.shown()))
    }

    /// The value of an attribute that is a number.
    ///
    /// # Errors
    /// Fails when there is none or it is no number.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        let value = self.attribute(name)?;
        value
            .parse()
            .with_context(|| format!("<{}> has {name}={}, which is no number", self.shown(), quoted(value.as_bytes())))
    }
}

/// Parses a small document with the root element `root`.
///
/// # Errors
/// Fails on what is not well-formed, is cut off, or has another root.
pub(super) fn parse(bytes: &[u8], root: &str) -> Result<Element> {
    let mut events = Events::of(bytes, u64::MAX);
    loop {
        let element = match events.next()? {
            Event::Start(start) => {
                let start = element_of(&start)?;
                events.element(start)?
            }
            Event::Empty(start) => element_of(&start)?,
            Event::Eof => bail!("there is no <{root}>"),
            Event::Text(text) if !text.trim().is_empty() => bail!("it begins with text instead of <{root}>"),
            _ => continue,
        };
        if element.name != root {
            bail!("it is a <{}> instead of a <{root}>", element.shown());
        }
        return Ok(element);
    }
}

/// The element of a tag, without its content.
///
/// # Errors
/// Fails on malformed attributes.
pub(super) fn element_of(start: &BytesStart<'_>) -> Result<Element> {
    let mut attributes = BTreeMap::new();
    // Its own search for repetitions takes time by the square of their number.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(escaped_error)?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(escaped_error)?.into_owned();
        let name = local(attribute.key.as_ref());
        ensure!(attributes.insert(name.to_owned(), value).is_none(), "a tag has the attribute {name} twice");
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
        for text in ["<a\x1b[2J\u{9b}/>", "<root><a\x1b[2J></b></root>", "<root><b\x1b>", "<root>&\x1b[2J;</root>"] {
            assert!(!message(text).contains(char::is_control), "{text:?}");
        }
        assert!(message(&format!("<root>{}", "<b>".repeat(100))).contains("nested deeper"));
        assert!(message("<root a='1' a='2'/>").contains("the attribute a twice"));
    }

    /// A reader of `head`, then of `piece` again and again: it never ends.
    fn endless(head: &'static str, piece: &'static str) -> impl BufRead {
        struct Repeat(&'static [u8], usize);
        impl Read for Repeat {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                for byte in buffer.iter_mut() {
                    *byte = self.0[self.1 % self.0.len()];
                    self.1 += 1;
                }
                Ok(buffer.len())
            }
        }
        io::BufReader::new(head.as_bytes().chain(Repeat(piece.as_bytes(), 0)))
    }

    #[test]
    fn texts_tags_and_elements_without_end_are_refused_within_their_limits() {
        let message = |head, piece| {
            let mut events = Events::of(endless(head, piece), 1 << 40);
            assert!(matches!(events.next().unwrap(), Event::Start(_)));
            let error = format!("{:#}", events.element(Element::default()).unwrap_err());
            assert!(events.reader.get_ref().total_bytes <= ELEMENT_MAX_BYTES + EVENT_MAX_BYTES, "{error}");
            error
        };
        for (head, piece) in [("<a>", "text "), ("<a><b ", "a='1' "), ("<a><!--", "- "), ("<a><![CDATA[", "x")] {
            let message = message(head, piece);
            assert!(message.contains("a tag or text in it has more than 1048576 bytes"), "{head}: {message}");
        }
        assert!(message("<a>", "<b/>").contains("has more than 200000 others in it"));
        let text = Box::leak(format!("<b>{}</b>", "text ".repeat(100_000)).into_boxed_str());
        assert!(message("<a>", text).contains("an element in it has more than 67108864 bytes"));
    }

    #[test]
    fn a_document_is_skipped_up_to_its_limit() {
        let mut events = Events::of(endless("<a>", "<b>text</b>"), 10_000_000);
        assert!(matches!(events.next().unwrap(), Event::Start(_)));
        let message = format!("{:#}", events.skip().unwrap_err());
        assert!(message.contains("it has more than 10000000 bytes when it is decompressed"), "{message}");
    }
}
