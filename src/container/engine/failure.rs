//! What goes wrong with an engine: one that refuses is told from one that does not answer. And what ends a job from outside,
//! which is never told as something that its program said.
//!
//! In: bollard's errors. Out: [`Failure`], which carries the engine's own words, and [`Ended`].

use std::fmt;

use anyhow::anyhow;
use bollard::errors::Error;
use rustix::process::Signal;

use ocinitrd_support::exhausted::Exhausted;

use ocinitrd_format::text::printable;

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The engine answered with an error.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine does not answer, or stopped in the middle of an answer.
    Unreachable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { message, .. } => write!(formatter, "the engine says: {}", printable(message.trim())),
            Failure::Unreachable(reason) => write!(formatter, "the engine does not answer: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Whether `error` comes from an engine that does not answer.
    pub fn is_unreachable(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Failure::Unreachable(_))))
    }
}

/// What ended a job before its program came to an end of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// A signal, to the program or to one that it had started, by its number.
    Signal(i32),
    /// The kernel, because there was not enough memory.
    OutOfMemory,
    /// Whoever removed its container.
    Removed,
}

/// To an exit code of a shell, that a signal ended the program: signal(7) knows 64.
const SIGNALS: std::ops::RangeInclusive<i64> = 129..=192;

impl Ended {
    /// What the exit code says of the end of a program.
    pub fn by_exit_code(code: i64) -> Option<Self> {
        SIGNALS.contains(&code).then(|| i32::try_from(code - 128).ok().map(Ended::Signal)).flatten()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Signal(number) => {
                write!(formatter, "it was ended from outside, by signal {number}{}; start again", name(*number))?;
                if *number == Signal::KILL.as_raw() {
                    formatter
                        .write_str(", and see whether this machine has enough memory: the kernel ends programs so")?;
                }
                Ok(())
            }
            Ended::OutOfMemory => formatter.write_str("the kernel ended it, because there was not enough memory"),
            Ended::Removed => formatter.write_str("its container was removed from outside; start again"),
        }
    }
}

impl std::error::Error for Ended {}

fn name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// An error of a connection, which is only the engine's if it is not this machine's.
pub(super) fn unreachable(error: &(dyn std::error::Error + 'static), reason: String) -> anyhow::Error {
    match Exhausted::find(error) {
        Some(exhausted) => anyhow!("asking the engine: {reason}: {exhausted}"),
        None => Failure::Unreachable(reason).into(),
    }
}

/// bollard's error in words of ours.
pub(super) fn failure(error: Error) -> anyhow::Error {
    match error {
        Error::DockerResponseServerError { status_code: status, message } => {
            Failure::Refused { status, message }.into()
        }
        Error::DockerStreamError { error: message } => Failure::Refused { status: 200, message }.into(),
        Error::SocketNotFoundError(_) => Failure::Unreachable("there is no such socket".to_owned()).into(),
        Error::RequestTimeoutError
        | Error::IOError { .. }
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. } => unreachable(&error, innermost(&error)),
        other => anyhow!(other),
    }
}

/// The innermost cause says what happened; the layers above it only that it happened to them.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_signals_are_told_by_number_and_name() {
        assert_eq!([0, 1, 90, 125, 128, 193, 255].map(Ended::by_exit_code), [None; 7]);
        let text = |code| Ended::by_exit_code(code).unwrap().to_string();
        assert!(text(143).contains("by signal 15 (SIGTERM)") && !text(143).contains("memory"), "{}", text(143));
        assert!(text(137).contains("by signal 9 (SIGKILL)") && text(137).contains("memory"), "{}", text(137));
        assert!(text(192).contains("by signal 64;"), "{}", text(192));
    }

    #[test]
    fn a_limit_of_this_process_is_not_the_engines_failure() {
        let error = std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let told = unreachable(&error, error.to_string());
        assert!(!Failure::is_unreachable(&told) && told.to_string().contains("too many files are open"), "{told}");
        let error = std::io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert!(Failure::is_unreachable(&unreachable(&error, error.to_string())));
    }
}
