//! Why a router gave no answer.
//!
//! Owns: the closed list of what can come between, whether asking again may help, and what to do.
//! Never: asks; `access` does.
//! Holds: every fault names the address that was tried.

use std::io;

use hyper::StatusCode;
use thiserror::Error;

/// Why a router gave no answer.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The URL makes no sense.
    #[error("`{url}` is no address of a router's API")]
    Address {
        /// As it was given.
        url: String,
    },
    /// Nobody listens there.
    #[error("no router can be reached at `{url}`")]
    Unreachable {
        /// What was tried.
        url: String,
        /// The system's words.
        source: io::Error,
    },
    /// The connection was lost, or what came over it is no HTTP.
    #[error("the router at `{url}` broke off")]
    BrokeOff {
        /// What was tried.
        url: String,
        /// What happened.
        source: hyper::Error,
    },
    /// It takes too long.
    #[error("the router at `{url}` does not answer")]
    Silent {
        /// What was tried.
        url: String,
    },
    /// Something else answers there.
    #[error("what answers at `{url}` is no router with an API (status {status})")]
    Stranger {
        /// What was tried.
        url: String,
        /// Its status.
        status: u16,
    },
    /// The router said no.
    #[error("{detail} ({code})")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// The problem's code.
        code: String,
        /// What is wrong.
        detail: String,
        /// What to do.
        next_step: String,
    },
}

impl AccessError {
    /// Whether asking again may help: the router is down, starting, stopping or busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokeOff { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            Self::Address { .. } | Self::Stranger { .. } => false,
        }
    }

    /// Whether what was asked for is not known there.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "api.unknown")
    }

    /// Whether the call was wrong, rather than what it met.
    pub fn is_wrong_call(&self) -> bool {
        match self {
            Self::Address { .. } => true,
            Self::Refused { status, .. } => (400..500).contains(status),
            Self::Unreachable { .. }
            | Self::BrokeOff { .. }
            | Self::Silent { .. }
            | Self::Stranger { .. } => false,
        }
    }

    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Address { .. } => "write --api as http://HOST:PORT, like http://127.0.0.1:8080".to_owned(),
            Self::Unreachable { .. } | Self::BrokeOff { .. } | Self::Silent { .. } => {
                "is it running? name its http.addr with --api URL or SWARMGATE_API".to_owned()
            }
            Self::Stranger { .. } => {
                "name the router's http.addr with --api URL, and see that it is of this release".to_owned()
            }
            Self::Refused { next_step, .. } => next_step.clone(),
        }
    }
}
