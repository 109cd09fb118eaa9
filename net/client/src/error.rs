//! What can go wrong between a client and a broker.
//!
//! Nothing a server sends panics: whatever cannot be understood ends as one of these.

use std::io;
use std::time::Duration;

use model::ErrorCode;

/// Failure of a connection or of a request over it.
///
/// Every variant except [`ClientError::Unsupported`] and [`ClientError::Broker`] leaves the connection unusable.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A frame longer than this client accepts, or of negative length.
    #[error("the server announced a response of {announced} bytes, more than the limit of {limit}")]
    FrameLength {
        /// The announced length in bytes.
        announced: i32,
        /// The limit in bytes.
        limit: usize,
    },
    /// A response to another request than the oldest one.
    #[error("response with correlation id {got} where {expected} was due")]
    Correlation {
        /// The id that was due.
        expected: i32,
        /// The id that came.
        got: i32,
    },
    /// Bytes that are not the response they should be.
    #[error("undecodable {api} response: {reason}")]
    Malformed {
        /// Name of the API.
        api: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// Client and server have no version of this API in common.
    #[error("the server does not support {api} in any version this client knows")]
    Unsupported {
        /// Name of the API.
        api: &'static str,
    },
    /// A request was sent although the in-flight limit was reached, or received although none was in flight.
    #[error("{0}")]
    Misuse(&'static str),
    /// The broker refused, and trying again does not help or did not help long enough.
    #[error("{what}: {} (code {}){}", code_name(*.code), .code.code(), detail(.message))]
    Broker {
        /// What was asked for.
        what: String,
        /// The broker's answer.
        code: ErrorCode,
        /// The broker's explanation, if it gave one.
        message: Option<String>,
    },
    /// What was to be sent cannot be.
    #[error("{what}: {reason}")]
    Refused {
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
    /// An error code that Kafka 4.3.1 does not define.
    #[error("{what}: unknown error code {code}")]
    UnknownCode {
        /// What was asked for.
        what: String,
        /// The number on the wire.
        code: i16,
    },
}

impl ClientError {
    /// The broker's error code, if it was the broker that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether trying again, after reconnecting or refreshing metadata, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Lost(_)
            | ClientError::Closed
            | ClientError::Timeout(_) => true,
            ClientError::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Success for code 0, otherwise the error of a `code` from the wire.
    pub fn check(what: &str, code: i16, message: Option<String>) -> Result<(), ClientError> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Ok(()),
            Some(code) => Err(ClientError::Broker {
                what: what.to_owned(),
                code,
                message,
            }),
            None => Err(ClientError::UnknownCode {
                what: what.to_owned(),
                code,
            }),
        }
    }
}

/// Kafka's spelling of an error code: `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn code_name(code: ErrorCode) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

fn detail(message: &Option<String>) -> String {
    match message {
        Some(message) => format!(": {message}"),
        None => String::new(),
    }
}
