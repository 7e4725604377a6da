//! OpenPGP packets and signature subpackets: a type and a body, in the old and the new form of RFC 9580 section 4.2.

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Packets that carry nothing and may stand anywhere.
const MARKER: u8 = 10;
const PADDING: u8 = 21;

/// A packet, or a subpacket of a signature.
#[derive(Debug)]
pub(super) struct Packet<'b> {
    /// Its type; of a subpacket without the critical bit.
    pub kind: u8,
    /// What it holds.
    pub body: &'b [u8],
    /// Its header and body, as they are in the input.
    pub whole: &'b [u8],
}

impl Packet<'_> {
    /// Whether readers are to skip it.
    pub(super) fn is_ignorable(&self) -> bool {
        matches!(self.kind, MARKER | PADDING)
    }
}

/// Whether a packet, not text, begins with this byte.
pub(super) fn is_binary(first: u8) -> bool {
    first & 0x80 != 0
}

/// The packets of `bytes`; after an error there are no more.
pub(super) struct Packets<'b> {
    rest: &'b [u8],
}

impl<'b> Packets<'b> {
    pub(super) fn of(bytes: &'b [u8]) -> Self {
        Packets { rest: bytes }
    }
}

impl<'b> Iterator for Packets<'b> {
    type Item = Result<Packet<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = read(self.rest);
        self.rest = packet.as_ref().map_or(&[], |packet| &self.rest[packet.whole.len()..]);
        Some(packet)
    }
}

fn read(bytes: &[u8]) -> Result<Packet<'_>> {
    let first = bytes[0];
    ensure!(is_binary(first), "there is no OpenPGP packet where one is to begin");
    let is_new = first & 0x40 != 0;
    let kind = if is_new { first & 0x3f } else { first >> 2 & 0xf };
    let cut_off = || anyhow!("the packet of type {kind} is cut off");
    let rest = &bytes[1..];
    let split = if is_new {
        if matches!(rest.first(), Some(0xe0..=0xfe)) {
            bail!("the packet of type {kind} has a partial length, which no key or signature has");
        }
        split_new(rest)
    } else {
        match first & 3 {
            3 => bail!("the packet of type {kind} has no length, which every key and signature has"),
            exponent => split_counted(rest, 1 << exponent),
        }
    };
    let (body, rest) = split.ok_or_else(cut_off)?;
    Ok(Packet { kind, body, whole: &bytes[..bytes.len() - rest.len()] })
}

/// The subpackets of an area of a signature.
///
/// # Errors
/// Fails when one is cut off or empty.
pub(super) fn subpackets(mut area: &[u8]) -> Result<Vec<Packet<'_>>> {
    let mut subpackets = Vec::new();
    while !area.is_empty() {
        let split = match area.first() {
            // Subpackets have no partial lengths: these are the longer ones of two bytes.
            Some(0xe0..=0xfe) => split_two_bytes(area),
            _ => split_new(area),
        };
        let (content, rest) = split.context("a subpacket is cut off")?;
        let (kind, body) = content.split_first().context("a subpacket is empty")?;
        subpackets.push(Packet { kind: kind & 0x7f, body, whole: &area[..area.len() - rest.len()] });
        area = rest;
    }
    Ok(subpackets)
}

/// Splits at a length of one, two or five bytes that stands at the start; `None` if there are fewer bytes.
fn split_new(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match *bytes.first()? {
        0..=191 => split_counted(bytes, 1),
        255 => split_counted(&bytes[1..], 4),
        _ => split_two_bytes(bytes),
    }
}

fn split_two_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = ((usize::from(*bytes.first()?) - 192) << 8) + usize::from(*bytes.get(1)?) + 192;
    bytes[2..].split_at_checked(length)
}

/// Splits at a big-endian length of `width` bytes that stands at the start; `None` if there are fewer bytes.
pub(super) fn split_counted(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(bytes: &[u8]) -> Vec<(u8, usize)> {
        Packets::of(bytes).map(|packet| packet.map(|packet| (packet.kind, packet.body.len())).unwrap()).collect()
    }

    #[test]
    fn lengths_of_every_form_are_read() {
        let packet = |header: &[u8], length: usize| [header, &vec![0; length]].concat();
        let forms = [
            packet(&[0xc2, 191], 191),
            packet(&[0xc2, 192, 0], 192),
            packet(&[0xc2, 223, 255], 8383),
            packet(&[0xc2, 255, 0, 0, 0x20, 0xc0], 8384),
            packet(&[0x88, 255], 255),
            packet(&[0x89, 1, 0], 256),
            packet(&[0x8a, 0, 1, 0, 0], 65536),
        ];
        let expected = [191, 192, 8383, 8384, 255, 256, 65536].map(|length| (2, length));
        assert_eq!(lengths(&forms.concat()), expected);
        for form in forms {
            let cut = &form[..form.len() - 1];
            assert_eq!(read(cut).unwrap_err().to_string(), "the packet of type 2 is cut off");
        }
        assert!(read(&[0x8b, 1]).unwrap_err().to_string().contains("has no length"));
    }

    #[test]
    fn subpackets_have_two_byte_lengths_up_to_254() {
        let long = [&[254, 255, 0x80 | 33][..], &[7; 16_318], &[2, 16, 9]].concat();
        let found: Vec<_> = subpackets(&long).unwrap().iter().map(|one| (one.kind, one.body.len())).collect();
        assert_eq!(found, [(33, 16_318), (16, 1)]);
        assert_eq!(subpackets(&[0]).unwrap_err().to_string(), "a subpacket is empty");
        assert_eq!(subpackets(&[3, 16]).unwrap_err().to_string(), "a subpacket is cut off");
    }
}
