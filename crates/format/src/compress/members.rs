//! A whole file in, whatever its codec; its bytes out.

use std::io::{self, Read};

use super::{Codec, Decoder, Input};

/// Reads a file of one or more compressed members to its end; what is not compressed passes as it is.
///
/// Unlike an initrd, such a file holds nothing but its content: what follows the last member must be another.
pub struct MultiDecoder<R: Read>(State<R>);

enum State<R: Read> {
    Start(Input<R>),
    Member(Box<Decoder<R>>),
    Plain(Input<R>),
    End,
}

impl<R: Read> MultiDecoder<R> {
    /// Reads `inner` from its current position.
    pub fn new(inner: R) -> Self {
        MultiDecoder(State::Start(Input::new(inner)))
    }

    /// The state after an end of input or member, or at the start.
    fn next(mut input: Input<R>, first: bool) -> io::Result<State<R>> {
        let magic = input.peek(Codec::MAGIC_BYTES)?;
        Ok(match (magic.is_empty(), first && Codec::detect(magic).is_none()) {
            (true, _) => State::End,
            (false, true) => State::Plain(input),
            (false, false) => State::Member(Box::new(Decoder::new(input)?)),
        })
    }
}

impl<R: Read> Read for MultiDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.0 {
                State::Plain(input) => return input.read(buffer),
                State::Member(decoder) => match decoder.read(buffer)? {
                    0 => {}
                    count => return Ok(count),
                },
                State::Start(_) | State::End => {}
            }
            self.0 = match std::mem::replace(&mut self.0, State::End) {
                State::Start(input) => MultiDecoder::next(input, true)?,
                State::Member(decoder) => MultiDecoder::next(decoder.finish()?.0, false)?,
                State::Plain(_) | State::End => return Ok(0),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::Encoder;
    use super::*;

    fn compressed(text: &[u8], compression: &str) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression.parse().unwrap()).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        MultiDecoder::new(bytes).read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn members_follow_each_other_whatever_their_codec() {
        for compression in ["zstd", "xz", "gzip"] {
            let two = [compressed(b"one ", compression), compressed(b"two", "gzip")].concat();
            assert_eq!(read(&two).unwrap(), b"one two", "{compression}");
        }
    }

    #[test]
    fn plain_bytes_pass_and_nothing_gives_nothing() {
        assert_eq!(read(b"<?xml?>").unwrap(), b"<?xml?>");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn cut_off_members_and_what_follows_them_are_errors() {
        for compression in ["zstd", "xz", "gzip"] {
            let whole = compressed(&[7; 5000], compression);
            assert!(read(&whole[..whole.len() - 3]).is_err(), "{compression}");
            assert!(read(&[whole, b"garbage".to_vec()].concat()).is_err(), "{compression}");
        }
    }
}
