//! TLS to the broker: what it is made of, and what can be wrong with it.
//!
//! Owns: the source of certificates that a connection asks, and the words and the next step of each
//! fault.
//! Never: keeps or prints a key, or knows where the files are; whoever connects hands a source in.
//! Holds: a fault that the operator can mend names the setting or the command to mend it with.

use std::{fmt, sync::Arc};

use thiserror::Error;
use zeroize::Zeroizing;

/// Where a connection's certificates come from. It is asked for every connection, so that changed
/// files count.
pub trait TlsSource: Send + Sync {
    /// Reads them; may block.
    ///
    /// # Errors
    /// [`TlsFault::Unusable`], naming the setting.
    fn read(&self) -> Result<TlsMaterial, TlsFault>;

    /// Whether there is a certificate of our own among them.
    fn has_client(&self) -> bool;
}

/// The certificates of one connection.
#[derive(Default)]
pub struct TlsMaterial {
    /// The authorities to trust, as PEM; the system's where there are none.
    pub ca_pem: Option<Vec<u8>>,
    /// Our own certificate.
    pub client: Option<TlsClient>,
}

/// Our own certificate and its key.
pub struct TlsClient {
    /// The certificate and those between it and its authority, as PEM.
    pub certificate_pem: Vec<u8>,
    /// Its key.
    pub key_pem: KeyPem,
}

/// A private key as PEM: it has no form that could be shown, and is wiped when dropped.
pub struct KeyPem(Zeroizing<Vec<u8>>);

impl KeyPem {
    /// Takes a key.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the driver only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A source, or none: then the system's authorities are trusted.
pub type TlsChoice = Option<Arc<dyn TlsSource>>;

/// Which authorities were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Those of `amqp.tls.ca_file`.
    CaFile,
    /// This system's.
    System,
}

impl fmt::Display for Trusted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::CaFile => "`amqp.tls.ca_file` names",
            Self::System => "this system trusts",
        })
    }
}

/// What is wrong between here and the broker's TLS port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsFault {
    /// A file or a key of our own.
    #[error("`{setting}` cannot be used: {reason}")]
    Unusable {
        /// The setting's key in the config.
        setting: &'static str,
        /// Why; never with a part of a key.
        reason: String,
    },
    /// No authority that is trusted has signed the broker's certificate.
    #[error("its certificate is signed by no authority that {0}")]
    UnknownAuthority(Trusted),
    /// The broker's certificate has signed itself.
    #[error("its certificate has signed itself, and is none that {0}")]
    SelfSigned(Trusted),
    /// The broker's certificate is that of an authority.
    #[error("its certificate is made for an authority (CA:TRUE) and not for a server")]
    Authority,
    /// The broker's certificate is another host's.
    #[error("its certificate is not for `{asked}`: it names {named}")]
    Name {
        /// The host of the URL.
        asked: String,
        /// The names in the certificate.
        named: String,
    },
    /// The broker's certificate is out of date.
    #[error("its certificate, or one above it, has expired{0}")]
    Expired(String),
    /// It is not valid yet.
    #[error("its certificate, or one above it, is not valid yet{0}")]
    NotYet(String),
    /// Something else is wrong with it.
    #[error("its certificate cannot be accepted: {0}")]
    Certificate(String),
    /// What answers does not speak TLS.
    #[error("what listens there does not speak TLS")]
    Plain,
    /// What answers speaks TLS only.
    #[error("what listens there speaks TLS, and the URL begins with `amqp://`")]
    Secured,
    /// The broker wants a certificate of ours, and there is none.
    #[error("it wants a certificate of ours")]
    ClientWanted,
    /// The broker does not accept ours.
    #[error("it does not accept our certificate ({0})")]
    ClientRefused(String),
    /// The broker has no login by certificate.
    #[error("it has no login by certificate: it offers {0}, and not EXTERNAL")]
    NoExternal(String),
    /// The handshake failed in another way.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

impl TlsFault {
    /// What to do.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unusable { .. } => {
                "correct that setting; certificates and keys are PEM files (docs/operating/tls.md)"
            }
            Self::UnknownAuthority(Trusted::CaFile) => {
                "name the authority that signed the broker's certificate in `amqp.tls.ca_file`; `openssl s_client -connect HOST:5671 -showcerts` shows who that is, and an authority between has to be in the broker's `ssl_options.certfile`"
            }
            Self::UnknownAuthority(Trusted::System) => {
                "name the file of your own authority in `amqp.tls.ca_file`, or add it to those of this system"
            }
            Self::SelfSigned(_) => {
                "give the broker a certificate of an authority and name that in `amqp.tls.ca_file`; nothing is connected to unchecked"
            }
            Self::Authority => {
                "sign a certificate for the broker with that authority, without CA:TRUE, set it in the broker's `ssl_options.certfile`, and name the authority in `amqp.tls.ca_file`"
            }
            Self::Name { .. } => {
                "write a host in `amqp.url` that the certificate names, or give the broker a certificate whose subjectAltName has this one; a common name alone does not count"
            }
            Self::Expired(_) => {
                "renew the broker's certificate (`openssl x509 -noout -dates -in FILE`), or correct this machine's clock"
            }
            Self::NotYet(_) => {
                "correct this machine's clock, or the broker's certificate (`openssl x509 -noout -dates -in FILE`)"
            }
            Self::Certificate(_) => {
                "look at it with `openssl s_client -connect HOST:5671 -showcerts` and give the broker another"
            }
            Self::Plain => {
                "name the broker's TLS port, 5671 unless set otherwise, or write `amqp://` where nothing need be encrypted"
            }
            Self::Secured => {
                "write `amqps://` in `amqp.url`, or name the broker's plain port, 5672 unless set otherwise"
            }
            Self::ClientWanted => {
                "set `amqp.tls.cert_file` and `amqp.tls.key_ref` to a certificate of an authority that the broker trusts"
            }
            Self::ClientRefused(_) => {
                "give `amqp.tls.cert_file` a certificate that has not expired, of an authority in the broker's `ssl_options.cacertfile`, with those between the two; the broker's log says more"
            }
            Self::NoExternal(_) => {
                "enable the broker's plugin `rabbitmq_auth_mechanism_ssl` and list EXTERNAL in its `auth_mechanisms`, or write user and password in `amqp.url`"
            }
            Self::Handshake(_) => "see the broker's log for its side of it; TLS 1.2 and 1.3 are spoken",
        }
    }

    /// Whether it lies in our own settings, so that no try of another time or address helps.
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Unusable { .. })
    }
}
