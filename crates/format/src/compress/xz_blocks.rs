//! What a member in xz is made of, as far as decoders do not tell: its check and the filters of each of its blocks.
//!
//! The bytes that a decoder consumes pass through here. Blocks are followed by the lengths in their LZMA2 chunks, nothing is decoded.
//! Specification: [The .xz File Format](https://tukaani.org/xz/xz-file-format.txt); what the kernel takes: Linux
//! `lib/xz/xz_dec_stream.c`.

use std::io::{self, BufRead, Read};

use super::Input;

const STREAM_HEADER_BYTES: usize = 12;
/// The bits of a block's flags: its number of filters less one, and which sizes are given.
const FILTERS_MASK: u8 = 0x03;
const SIZE_FLAGS: [u8; 2] = [0x40, 0x80];
const LZMA2: u64 = 0x21;
/// The filter for the code of x86. Kernels can be configured to take it, and those of other processors; those for x86 take this one.
const X86: u64 = 4;
/// Filters by their numbers.
const FILTERS: [(u64, &str); 8] = [
    (3, "delta"),
    (5, "powerpc"),
    (6, "ia64"),
    (7, "arm"),
    (8, "armthumb"),
    (9, "sparc"),
    (10, "arm64"),
    (11, "riscv"),
];

/// An input that looks at the blocks as they are consumed.
pub(super) struct XzInput<R> {
    inner: Input<R>,
    blocks: Blocks,
}

impl<R: Read> XzInput<R> {
    /// `inner` is at the start of the member.
    pub(super) fn new(inner: Input<R>) -> Self {
        XzInput { inner, blocks: Blocks::default() }
    }

    pub(super) fn get_ref(&self) -> &Input<R> {
        &self.inner
    }

    pub(super) fn into_inner(self) -> Input<R> {
        self.inner
    }

    /// Why the kernel does not take what was consumed so far.
    pub(super) fn objection(&self) -> Option<&str> {
        self.blocks.objection.as_deref()
    }
}

impl<R: Read> BufRead for XzInput<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.blocks.feed(self.inner.buffered(count));
        self.inner.consume(count);
    }
}

impl<R: Read> Read for XzInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[derive(Clone, Copy)]
enum State {
    StreamHeader,
    /// The length of a block's header, or what stands in its place at the end.
    BlockSize,
    BlockHeader,
    Chunk,
    PlainChunk,
    LzmaChunk,
    /// The index, or damage, which the decoder reports.
    End,
}

/// Follows the blocks of a stream.
struct Blocks {
    state: State,
    /// What was read of the part that `state` names, and how much of it is needed.
    part: Vec<u8>,
    part_bytes: usize,
    skipped_bytes: usize,
    /// The length of the block's data so far, which is filled up to a multiple of 4.
    block_bytes: usize,
    check_bytes: usize,
    objection: Option<String>,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            state: State::StreamHeader,
            part: Vec::new(),
            part_bytes: STREAM_HEADER_BYTES,
            skipped_bytes: 0,
            block_bytes: 0,
            check_bytes: 0,
            objection: None,
        }
    }
}

impl Blocks {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::End) {
            let skipped = bytes.len().min(self.skipped_bytes);
            self.skipped_bytes -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(self.part_bytes - self.part.len());
            self.part.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.part.len() == self.part_bytes {
                self.end_part();
            }
        }
    }

    fn end_part(&mut self) {
        let part = std::mem::take(&mut self.part);
        let number = |at: usize| usize::from(u16::from_be_bytes([part[at], part[at + 1]])) + 1;
        match (self.state, part[0]) {
            (State::StreamHeader, _) => {
                let check = part[7] & 0x0f;
                // None, CRC32 and what takes up as much, CRC64, SHA-256, ...: three numbers each.
                self.check_bytes = if check == 0 { 0 } else { 4 << ((check - 1) / 3) };
                if check > 1 {
                    self.object("the kernel does not take this kind of check in xz: compress with --check=crc32");
                }
                self.go_on(State::BlockSize, 1);
            }
            (State::BlockSize, 0) | (State::End, _) => self.state = State::End,
            (State::BlockSize, size) => {
                self.part = part;
                self.go_on(State::BlockHeader, (usize::from(size) + 1) * 4);
            }
            (State::BlockHeader, _) => {
                if let Some(objection) = filters(&part).and_then(|filters| refused(&filters)) {
                    self.object(&objection);
                }
                self.block_bytes = 0;
                self.go_on(State::Chunk, 1);
            }
            (State::Chunk, 0) => {
                let end = self.block_bytes + 1;
                self.skipped_bytes = end.next_multiple_of(4) - end + self.check_bytes;
                self.go_on(State::BlockSize, 1);
            }
            (State::Chunk, control @ (1 | 2 | 0x80..)) => {
                let (state, part_bytes) = match control {
                    1 | 2 => (State::PlainChunk, 3),
                    0x80..0xc0 => (State::LzmaChunk, 5),
                    _ => (State::LzmaChunk, 6),
                };
                self.part = part;
                self.go_on(state, part_bytes);
            }
            (State::Chunk, _) => self.state = State::End,
            (State::PlainChunk, _) => self.skip_chunk(part.len(), number(1)),
            (State::LzmaChunk, _) => self.skip_chunk(part.len(), number(3)),
        }
    }

    fn skip_chunk(&mut self, header_bytes: usize, size_bytes: usize) {
        self.block_bytes = self.block_bytes.wrapping_add(header_bytes + size_bytes);
        self.skipped_bytes = size_bytes;
        self.go_on(State::Chunk, 1);
    }

    fn go_on(&mut self, state: State, part_bytes: usize) {
        self.state = state;
        self.part_bytes = part_bytes;
    }

    fn object(&mut self, objection: &str) {
        self.objection.get_or_insert_with(|| objection.to_owned());
    }
}

/// The filters of a block, each its number and the length of its properties; none of a header that is damaged.
fn filters(header: &[u8]) -> Option<Vec<(u64, u64)>> {
    let flags = *header.get(1)?;
    let mut rest = header.get(2..)?;
    for _ in SIZE_FLAGS.iter().filter(|flag| flags & **flag != 0) {
        integer(&mut rest)?;
    }
    let mut filters = Vec::new();
    for _ in 0..=flags & FILTERS_MASK {
        let filter = (integer(&mut rest)?, integer(&mut rest)?);
        rest = rest.get(usize::try_from(filter.1).ok()?..)?;
        filters.push(filter);
    }
    Some(filters)
}

/// An integer of variable length: seven bits a byte, the lowest first.
fn integer(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What the kernel has against filters: it takes LZMA2, and before that one for the code of a processor.
fn refused(filters: &[(u64, u64)]) -> Option<String> {
    let (number, options_bytes) = match filters {
        [(LZMA2, _)] => return None,
        [filter, (LZMA2, _)] => *filter,
        _ => return Some("the kernel takes at most one filter before LZMA2 in xz".to_owned()),
    };
    if number == X86 {
        let told = "the kernel does not take the filter x86 with a start offset in xz";
        return (options_bytes > 0).then(|| told.to_owned());
    }
    let name = FILTERS.iter().find(|(one, _)| *one == number).map(|(_, name)| *name);
    Some(match name {
        None | Some("delta" | "ia64") => {
            let name = name.map_or_else(|| format!("{number:#x}"), str::to_owned);
            format!("the kernel does not take the filter {name} in xz")
        }
        Some(name) => format!("not every kernel takes the filter {name} in xz"),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    use liblzma::write::XzEncoder;

    use super::*;

    /// What is told of a member of two blocks that comes in pieces of so many bytes.
    fn objection(filters: &Filters, check: Check, piece: usize) -> Option<String> {
        let stream = Stream::new_stream_encoder(filters, check).unwrap();
        let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
        let text: Vec<u8> = (0..300_000_u32).flat_map(|number| number.wrapping_mul(number).to_le_bytes()).collect();
        encoder.write_all(&text).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&text[..1000]).unwrap();
        let member = encoder.finish().unwrap();
        let mut blocks = Blocks::default();
        member.chunks(piece).for_each(|piece| blocks.feed(piece));
        assert!(matches!(blocks.state, State::End));
        blocks.objection
    }

    #[test]
    fn filters_and_checks_are_seen_in_whatever_pieces_they_come() {
        let options = LzmaOptions::new_preset(0).unwrap();
        let lzma = || {
            let mut filters = Filters::new();
            filters.lzma2(&options);
            filters
        };
        let x86 = || {
            let mut filters = Filters::new();
            filters.x86();
            filters.lzma2(&options);
            filters
        };
        for piece in [1, 7, 4096, usize::MAX] {
            assert_eq!(objection(&lzma(), Check::Crc32, piece), None);
            assert_eq!(objection(&x86(), Check::None, piece), None);
            for check in [Check::Crc64, Check::Sha256] {
                assert!(objection(&lzma(), check, piece).unwrap().contains("this kind of check"));
            }
        }
    }

    #[test]
    fn filters_that_the_kernel_does_not_take_are_told() {
        let told = |filters: &[(u64, u64)]| refused(filters).unwrap_or_default();
        assert_eq!(told(&[(LZMA2, 1)]), "");
        assert_eq!(told(&[(4, 0), (LZMA2, 1)]), "");
        assert!(told(&[(3, 1), (LZMA2, 1)]).contains("the filter delta"));
        assert!(told(&[(4, 4), (LZMA2, 1)]).contains("x86 with a start offset"));
        assert!(told(&[(4, 0), (3, 1), (LZMA2, 1)]).contains("at most one filter"));
        assert!(told(&[(10, 0), (LZMA2, 1)]).contains("not every kernel takes the filter arm64"));
        assert!(told(&[(6, 0), (LZMA2, 1)]).contains("the filter ia64"));
        assert!(told(&[(99, 0), (LZMA2, 1)]).contains("the filter 0x63"));
    }

    #[test]
    fn the_header_of_a_block_may_have_sizes() {
        // Two filters, both sizes: 300 and 5; delta with one byte of properties, LZMA2 with one.
        let header = [6, 0xc1, 0xac, 0x02, 5, 3, 1, 9, 0x21, 1, 0x16, 0];
        assert_eq!(filters(&header), Some(vec![(3, 1), (LZMA2, 1)]));
        assert_eq!(filters(&header[..9]), None);
    }
}
