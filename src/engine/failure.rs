//! What goes wrong with an engine: one that refuses is told from one that does not answer.
//!
//! In: bollard's errors. Out: [`Failure`], which carries the engine's own words.

use std::fmt;

use anyhow::anyhow;
use bollard::errors::Error;

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
            Failure::Refused { message, .. } => write!(formatter, "the engine says: {}", message.trim()),
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
        | Error::HyperLegacyError { .. } => Failure::Unreachable(innermost(&error)).into(),
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
