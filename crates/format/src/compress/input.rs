//! A buffered reader that can look ahead and knows its position: what telling one member from the next needs.

use std::io::{self, BufRead, Read};

const BUFFER_BYTES: usize = 256 << 10;

/// Buffers `R`, shows what comes next without consuming it, and counts what was consumed.
pub struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
}

impl<R: Read> Input<R> {
    /// Wraps `inner`, whose current position counts as 0.
    pub fn new(inner: R) -> Self {
        Input { inner, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0, position: 0 }
    }

    /// How many bytes were consumed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next `count` bytes of those that were shown last.
    pub(super) fn buffered(&self, count: usize) -> &[u8] {
        &self.buffer[self.start..self.start + count]
    }

    /// The next `count` bytes, or fewer where the input ends before. `count` is at most 4,096.
    ///
    /// # Errors
    /// Fails when reading fails.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= 4096, "a look ahead is short");
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "no more is consumed than was shown");
        self.start += count;
        self.position += count as u64;
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buffer.len() >= self.buffer.len() {
            let count = self.inner.read(buffer)?;
            self.position += count as u64;
            return Ok(count);
        }
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
