//! What is typed on a guest's console when it asks.

use std::io::{ErrorKind, Write};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::scenario::Prompt;

/// Who asks may throw away what was typed before it listens.
const PAUSE: Duration = Duration::from_millis(500);

/// Questions that are still to come, and answers that are due.
pub struct Dialogue<W = ChildStdin> {
    exchanges: std::slice::Iter<'static, Prompt>,
    /// What was heard since the last question.
    heard: Vec<u8>,
    due: Option<(Instant, &'static str)>,
    keyboard: Option<W>,
}

impl<W: Write> Dialogue<W> {
    /// A dialogue over the standard input of the guest.
    pub fn new(exchanges: &'static [Prompt], keyboard: Option<W>) -> Self {
        Dialogue { exchanges: exchanges.iter(), heard: Vec::new(), due: None, keyboard }
    }

    /// Takes in what the console printed.
    pub fn hear(&mut self, bytes: &[u8], now: Instant) {
        let Some(next) = self.exchanges.as_slice().first() else { return };
        if self.due.is_some() {
            return;
        }
        self.heard.extend(bytes);
        if contains(&self.heard, next.question.as_bytes()) {
            self.heard.clear();
            self.due = Some((now + PAUSE, next.answer));
            self.exchanges.next();
        }
    }

    /// Types the answer that is due.
    ///
    /// # Errors
    /// Fails when the guest cannot be written to. One that has ended listens no more, and that shows elsewhere.
    pub fn answer(&mut self, now: Instant) -> Result<()> {
        let Some((_, text)) = self.due.take_if(|(time, _)| *time <= now) else { return Ok(()) };
        let Some(keyboard) = &mut self.keyboard else { return Ok(()) };
        match keyboard.write_all(format!("{text}\n").as_bytes()).and_then(|()| keyboard.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("typing on the guest's console"),
            _ => Ok(()),
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGES: &[Prompt] =
        &[Prompt { question: "name?", answer: "one" }, Prompt { question: "name?", answer: "two" }];

    #[test]
    fn each_question_is_answered_once_after_a_pause_however_it_arrives() {
        let mut dialogue = Dialogue::new(EXCHANGES, Some(Vec::new()));
        let start = Instant::now();
        dialogue.hear(b"Your na", start);
        dialogue.hear(b"me? ", start);
        dialogue.answer(start).unwrap();
        assert!(dialogue.keyboard.as_ref().unwrap().is_empty(), "it is too early");
        dialogue.answer(start + PAUSE).unwrap();
        dialogue.answer(start + PAUSE).unwrap();
        assert_eq!(dialogue.keyboard.as_ref().unwrap(), b"one\n");
        dialogue.hear(b"No. Your name? ", start);
        dialogue.answer(start + PAUSE).unwrap();
        dialogue.hear(b"name?", start);
        dialogue.answer(start + PAUSE).unwrap();
        assert_eq!(dialogue.keyboard.unwrap(), b"one\ntwo\n");
    }
}
