//! The legacy frame format of lz4, the only one of its formats that the kernel unpacks.
//!
//! A magic number, then blocks, each its compressed length as 32-bit little-endian number and an lz4 block of at most 8 MiB
//! uncompressed. Nothing marks the end. Specification:
//! [LZ4 Frame Format, "Legacy frame"](https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md).

use std::io::{self, BufRead, Read, Write};

use lz4_flex::block;

use super::input::Input;

/// The magic number as it stands in a file.
const MAGIC: [u8; 4] = 0x184C_2102_u32.to_le_bytes();
const BLOCK_BYTES: usize = 8 << 20;
/// What a block of incompressible data grows to: a larger length is no length, and the kernel fails there.
const COMPRESSED_MAX_BYTES: usize = BLOCK_BYTES + BLOCK_BYTES / 255 + 16;

/// Compresses; nothing is written before a block is full.
pub(super) struct Writer<W> {
    inner: W,
    block: Vec<u8>,
    started: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W) -> Self {
        Writer { inner, block: Vec::with_capacity(BLOCK_BYTES), started: false }
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.started || !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(self.inner)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if !self.started {
            self.inner.write_all(&MAGIC)?;
            self.started = true;
        }
        if self.block.is_empty() {
            return Ok(());
        }
        let compressed = block::compress(&self.block);
        self.block.clear();
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        self.inner.write_all(&length.to_le_bytes())?;
        self.inner.write_all(&compressed)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        let count = buffer.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses up to where the kernel too sees the end: the end of the input, or a length of zero. Where another member in lz4
/// follows, the kernel goes on as if it were this one.
pub(super) struct Reader<R> {
    inner: Input<R>,
    compressed: Vec<u8>,
    /// Room for the longest block, of which `end` bytes are those of this one. It is made once: a block may have five bytes.
    block: Vec<u8>,
    position: usize,
    end: usize,
}

impl<R: Read> Reader<R> {
    /// `inner` is at the magic number.
    pub(super) fn new(mut inner: Input<R>) -> Self {
        inner.consume(MAGIC.len());
        Reader { inner, compressed: Vec::new(), block: Vec::new(), position: 0, end: 0 }
    }

    pub(super) fn get_ref(&self) -> &Input<R> {
        &self.inner
    }

    pub(super) fn into_inner(self) -> Input<R> {
        self.inner
    }

    /// The length of the next block, or none at the end.
    fn block_length(&mut self) -> io::Result<Option<usize>> {
        let bytes = loop {
            let bytes = self.inner.peek(4)?;
            let Ok(bytes) = <[u8; 4]>::try_from(bytes) else {
                return if bytes.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(truncated()) };
            };
            if bytes != MAGIC {
                break bytes;
            }
            self.inner.consume(MAGIC.len());
        };
        match u32::from_le_bytes(bytes) as usize {
            0 => Ok(None),
            length @ 1..=COMPRESSED_MAX_BYTES => Ok(Some(length)),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what follows the lz4 member is no block of it, and no zeros, with which the kernel would see its end",
            )),
        }
    }

    fn read_block(&mut self, length: usize) -> io::Result<()> {
        self.inner.consume(4);
        self.compressed.clear();
        (&mut self.inner).take(length as u64).read_to_end(&mut self.compressed)?;
        if self.compressed.len() < length {
            return Err(truncated());
        }
        self.block.resize(BLOCK_BYTES, 0);
        self.end = block::decompress_into(&self.compressed, &mut self.block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("damaged lz4 block: {error}")))?;
        self.position = 0;
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.end {
            match self.block_length()? {
                Some(length) => self.read_block(length)?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.end - self.position);
        buffer[..count].copy_from_slice(&self.block[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the lz4 member is cut off")
}
