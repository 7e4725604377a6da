//! What a job prints: whole lines to the narration as they come, and the end of it kept.
//!
//! In: pieces of standard output and standard error that end anywhere. Out: lines in the order in which they ended, and
//! at most [`KEPT_BYTES`] of them as text.

use std::collections::VecDeque;

use bytes::Bytes;

use super::podman::Chunk;
use ocinitrd_format::text::terminal_line;
use ocinitrd_support::progress::Progress;

/// How much of the end of a log is kept, in bytes.
pub const KEPT_BYTES: usize = 1024 * 1024;
/// A line longer than this is cut into several.
const LONGEST_LINE_BYTES: usize = 64 * 1024;

/// Collects what a job prints.
#[derive(Debug)]
pub(super) struct Log {
    progress: Progress,
    output: Vec<u8>,
    error: Vec<u8>,
    lines: VecDeque<String>,
    kept_bytes: usize,
    forgotten_lines: u64,
}

impl Log {
    pub(super) fn new(progress: &Progress) -> Self {
        Log {
            progress: *progress,
            output: Vec::new(),
            error: Vec::new(),
            lines: VecDeque::new(),
            kept_bytes: 0,
            forgotten_lines: 0,
        }
    }

    pub(super) fn add(&mut self, piece: Chunk) {
        match piece {
            Chunk::Output(bytes) => self.split(&bytes, |log| &mut log.output),
            Chunk::Error(bytes) => self.split(&bytes, |log| &mut log.error),
        }
    }

    fn split(&mut self, bytes: &Bytes, pending: fn(&mut Log) -> &mut Vec<u8>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in part.chunks(LONGEST_LINE_BYTES) {
                let line = pending(self);
                line.extend_from_slice(part);
                if line.ends_with(b"\n") || line.len() >= LONGEST_LINE_BYTES {
                    let line = std::mem::take(line);
                    self.keep(&line);
                }
            }
        }
    }

    fn keep(&mut self, line: &[u8]) {
        let line = terminal_line(line);
        self.progress.detail(&line);
        self.kept_bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.kept_bytes > KEPT_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.kept_bytes -= oldest.len() + 1;
            self.forgotten_lines += 1;
        }
    }

    /// The text, also of a last line without an end.
    pub(super) fn finish(mut self) -> String {
        for rest in [std::mem::take(&mut self.output), std::mem::take(&mut self.error)] {
            if !rest.is_empty() {
                self.keep(&rest);
            }
        }
        let mut text = String::with_capacity(self.kept_bytes);
        if self.forgotten_lines > 0 {
            text.push_str(&format!("[{} earlier lines left out]\n", self.forgotten_lines));
        }
        for line in self.lines {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_support::progress::Verbosity;

    fn log() -> Log {
        Log::new(&Progress::new(Verbosity::Quiet))
    }

    fn output(text: &'static str) -> Chunk {
        Chunk::Output(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_put_together_for_each_stream_apart() {
        let mut log = log();
        log.add(output("first ha"));
        log.add(Chunk::Error(Bytes::from_static(b"warning\r\n")));
        log.add(output("lf\nsecond\nno end"));
        assert_eq!(log.finish(), "warning\nfirst half\nsecond\nno end\n");
    }

    #[test]
    fn a_character_cut_in_two_is_read_as_one() {
        let mut log = log();
        log.add(Chunk::Output(Bytes::from_static(b"caf\xc3")));
        log.add(Chunk::Output(Bytes::from_static(b"\xa9\n")));
        assert_eq!(log.finish(), "café\n");
    }

    #[test]
    fn the_end_is_kept_and_the_rest_counted() {
        let mut log = log();
        for number in 0..300_000 {
            log.add(Chunk::Output(Bytes::from(format!("line {number}\n"))));
        }
        let text = log.finish();
        assert!(text.len() < KEPT_BYTES + 64, "{}", text.len());
        assert!(text.ends_with("line 299999\n"));
        assert!(text.starts_with('['), "{}", &text[..40]);
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut log = log();
        for _ in 0..100 {
            log.add(Chunk::Output(Bytes::from(vec![b'z'; 100_000])));
        }
        assert!(log.output.len() < LONGEST_LINE_BYTES);
        assert!(log.finish().len() < KEPT_BYTES + LONGEST_LINE_BYTES);
    }

    #[test]
    fn the_terminal_is_not_steered() {
        let mut log = log();
        log.add(output("\u{1b}[31mred\tand plain\n"));
        assert_eq!(log.finish(), "red\tand plain\n");
    }
}
