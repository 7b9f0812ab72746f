//! TLS below the client library.
//!
//! Owns: what a connection trusts and shows, and what a failed handshake means.
//! Never: leaves out a check of the broker's certificate or name; keeps the PEM of a key.
//! Holds: the files are read anew for every connection, so that a renewed certificate counts from
//! the next one on.

use std::{fmt, io, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_rustls::{TlsConnector, client::TlsStream};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName,
        UnixTime, pem::PemObject,
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use zeroize::Zeroizing;

use super::socket::Socket;
use crate::{
    bus::tls::{KeyPem, TlsChoice, TlsClient, TlsFault, TlsMaterial, Trusted},
    contract::timestamp::Timestamp,
};

const CA_FILE: &str = "amqp.tls.ca_file";
const CERT_FILE: &str = "amqp.tls.cert_file";
const KEY_REF: &str = "amqp.tls.key_ref";
/// The first bytes of a TLS record that is an alert or a handshake: its type, and the major
/// version.
const ALERT: [u8; 2] = [21, 3];
const HANDSHAKE: [u8; 2] = [22, 3];

/// What one connection trusts and shows.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    trusted: Trusted,
    has_client: bool,
}

impl Tls {
    /// Reads the certificates.
    pub async fn read(source: &TlsChoice) -> Result<Self, TlsFault> {
        let source = source.clone();
        let reading = tokio::task::spawn_blocking(move || {
            Self::of(source.map_or_else(|| Ok(TlsMaterial::default()), |source| source.read())?)
        });
        reading.await.unwrap_or_else(|fault| Err(TlsFault::Handshake(fault.to_string())))
    }

    fn of(material: TlsMaterial) -> Result<Self, TlsFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let trusted = if material.ca_pem.is_some() { Trusted::CaFile } else { Trusted::System };
        let roots = Arc::new(match material.ca_pem {
            Some(pem) => authorities(&pem)?,
            None => of_system()?,
        });
        let verifier = Verifier::new(roots, Arc::clone(&provider))?;
        let handshake = |fault: Error| TlsFault::Handshake(fault.to_string());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(handshake)?
            // What is called dangerous is a verifier of one's own; ours asks the library's own and
            // adds words.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let has_client = material.client.is_some();
        let config = match material.client {
            Some(client) => builder.with_client_cert_resolver(Arc::new(certified(client)?)),
            None => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), trusted, has_client })
    }

    /// Shakes hands with whom `host` names.
    pub async fn secure(&self, host: &str, socket: Socket) -> io::Result<TlsStream<Socket>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await
    }

    /// What a failed read or write means, where it is a matter of TLS.
    pub fn fault(&self, fault: &io::Error) -> Option<TlsFault> {
        match fault.get_ref()?.downcast_ref::<Error>()? {
            Error::InvalidCertificate(why) => Some(self.certificate(why)),
            Error::AlertReceived(alert) => Some(self.alert(*alert)),
            // What a port without TLS answers is no record of TLS.
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Some(TlsFault::Plain),
            other => Some(TlsFault::Handshake(other.to_string())),
        }
    }

    fn certificate(&self, why: &CertificateError) -> TlsFault {
        let at = |time: &UnixTime| {
            let micros = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            Timestamp::from_micros(micros)
        };
        match why {
            CertificateError::UnknownIssuer => TlsFault::UnknownAuthority(self.trusted),
            CertificateError::Expired => TlsFault::Expired(String::new()),
            CertificateError::ExpiredContext { not_after, .. } => {
                TlsFault::Expired(format!(" at {}", at(not_after)))
            }
            CertificateError::NotValidYet => TlsFault::NotYet(String::new()),
            CertificateError::NotValidYetContext { not_before, .. } => {
                TlsFault::NotYet(format!(": from {} on", at(not_before)))
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let named: Vec<String> = presented.iter().map(|name| format!("`{}`", shown(name))).collect();
                let named = if named.is_empty() { "no host".to_owned() } else { named.join(", ") };
                TlsFault::Name { asked: expected.to_str().into_owned(), named }
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<Odd>() {
                Some(Odd::SelfSigned) => TlsFault::SelfSigned(self.trusted),
                Some(Odd::Authority) => TlsFault::Authority,
                None => TlsFault::Certificate(other.to_string()),
            },
            other => TlsFault::Certificate(other.to_string()),
        }
    }

    fn alert(&self, alert: AlertDescription) -> TlsFault {
        use AlertDescription::{
            AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
            CertificateUnknown, DecryptError, HandshakeFailure, UnknownCA, UnsupportedCertificate,
        };
        match alert {
            CertificateRequired => TlsFault::ClientWanted,
            // What TLS 1.2 has for the same.
            HandshakeFailure | BadCertificate if !self.has_client => TlsFault::ClientWanted,
            AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRevoked
            | CertificateUnknown
            | DecryptError
            | UnknownCA
            | UnsupportedCertificate
                if self.has_client =>
            {
                TlsFault::ClientRefused(format!("{alert:?}"))
            }
            other => TlsFault::Handshake(format!("the broker ended it: {other:?}")),
        }
    }
}

/// Whether what came instead of AMQP is the beginning of a TLS record.
pub(super) fn is_record(bytes: &[u8]) -> bool {
    bytes.starts_with(&ALERT) || bytes.starts_with(&HANDSHAKE)
}

/// A name as webpki has it: `DnsName("broker")`, `IpAddress(127.0.0.1)`.
fn shown(name: &str) -> &str {
    let within = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    within.trim_matches('"')
}

fn unusable(setting: &'static str, reason: impl Into<String>) -> TlsFault {
    TlsFault::Unusable { setting, reason: reason.into() }
}

/// Every certificate of a PEM file, at least one.
fn certificates(setting: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|fault| unusable(setting, format!("it is no sound PEM file: {fault}")))?;
    if found.is_empty() {
        return Err(unusable(setting, "it holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(found)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(CA_FILE, pem)?.into_iter().enumerate() {
        let unread =
            |fault| unusable(CA_FILE, format!("its certificate {} cannot be read: {fault}", index + 1));
        roots.add(certificate).map_err(unread)?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // A system's list may hold what nobody can read any more; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |fault| format!(" ({fault})"));
        let reason = format!("it is not set, and this system has no authority that it trusts{why}");
        return Err(unusable(CA_FILE, reason));
    }
    Ok(roots)
}

fn certified(client: TlsClient) -> Result<SingleCertAndKey, TlsFault> {
    let chain = certificates(CERT_FILE, &client.certificate_pem)?;
    let (kind, der) = key_der(&client.key_pem)?;
    let key = match kind {
        KeyForm::Pkcs8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())),
        KeyForm::Pkcs1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.as_slice())),
        KeyForm::Sec1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.as_slice())),
    };
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| unusable(KEY_REF, "it is no RSA, EC or Ed25519 key that can be read"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // `Unknown`: this kind of key does not show its public half, so the handshake finds out.
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified.into()),
        Err(Error::InconsistentKeys(_)) => {
            Err(unusable(KEY_REF, "it is not the key of the certificate in `amqp.tls.cert_file`"))
        }
        Err(fault) => Err(unusable(CERT_FILE, format!("its first certificate cannot be read: {fault}"))),
    }
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyForm {
    Pkcs8,
    Pkcs1,
    Sec1,
}

const KEY_FORMS: [(&str, KeyForm); 3] =
    [("PRIVATE KEY", KeyForm::Pkcs8), ("RSA PRIVATE KEY", KeyForm::Pkcs1), ("EC PRIVATE KEY", KeyForm::Sec1)];

/// The first private key of a PEM file. The library's reader leaves the text of a key in memory
/// that nobody wipes.
fn key_der(pem: &KeyPem) -> Result<(KeyForm, Zeroizing<Vec<u8>>), TlsFault> {
    let text = str::from_utf8(pem.expose()).map_err(|_| unusable(KEY_REF, "it is no PEM file"))?;
    for (label, form) in KEY_FORMS {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let Some((_, rest)) = text.split_once(&begin) else { continue };
        let broken = || unusable(KEY_REF, "its private key is cut off or no base64");
        let (within, _) = rest.split_once(&end).ok_or_else(broken)?;
        if within.contains("Proc-Type: 4,ENCRYPTED") {
            break;
        }
        // With all its room: a buffer that grows leaves copies behind that nobody wipes.
        let mut base64 = Zeroizing::new(Vec::with_capacity(within.len()));
        base64.extend(within.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der = Zeroizing::new(vec![0; base64.len()]);
        let length = BASE64_STANDARD.decode_slice(&*base64, &mut der).map_err(|_| broken())?;
        der.truncate(length);
        return Ok((form, der));
    }
    Err(unusable(
        KEY_REF,
        if text.contains("ENCRYPTED") {
            "its private key is encrypted: write it without a passphrase (`openssl pkey -in FILE -out KEY`), and keep it from others"
        } else {
            "it holds no private key in PEM form (`-----BEGIN PRIVATE KEY-----`)"
        },
    ))
}

/// The library's verifier, and two words more for what it does not accept.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

/// What the library has no word for.
#[derive(Debug)]
enum Odd {
    SelfSigned,
    Authority,
}

impl fmt::Display for Odd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

impl std::error::Error for Odd {}

impl Verifier {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, TlsFault> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|fault| unusable(CA_FILE, fault.to_string()))?;
        Ok(Self { inner, provider })
    }

    /// Whether a certificate that nobody vouches for vouches for itself.
    fn is_self_signed(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let mut roots = RootCertStore::empty();
        let alone = roots.add(certificate.clone().into_owned()).ok().and_then(|()| {
            let provider = Arc::clone(&self.provider);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
        });
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        alone.is_some_and(|alone| match alone.verify_server_cert(certificate, &[], name, &[], now) {
            Ok(_) => true,
            Err(fault) => fault != unknown,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let odd =
            |odd: Odd| Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(odd))));
        match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
                if self.is_self_signed(certificate, name, now) =>
            {
                Err(odd(Odd::SelfSigned))
            }
            // The library hands this one of webpki's through as it is.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string().contains("CaUsedAsEndEntity") =>
            {
                Err(odd(Odd::Authority))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<(KeyForm, Vec<u8>), String> {
        let pem = KeyPem::new(Zeroizing::new(text.as_bytes().to_vec()));
        key_der(&pem).map(|(form, der)| (form, der.to_vec())).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_key_is_read_in_each_form_and_told_where_it_is_none() {
        let of = |label: &str, within: &str| {
            format!("x\n-----BEGIN {label}-----\n{within}\n-----END {label}-----\n")
        };
        let certificate = of("CERTIFICATE", "AQID");
        for (text, form) in [
            (of("PRIVATE KEY", "AQ\r\nID"), KeyForm::Pkcs8),
            (of("RSA PRIVATE KEY", "AQID"), KeyForm::Pkcs1),
            (of("EC PRIVATE KEY", "AQID"), KeyForm::Sec1),
            // A certificate and its key are often in one file.
            (certificate.clone() + &of("PRIVATE KEY", "AQID"), KeyForm::Pkcs8),
        ] {
            assert_eq!(key(&text), Ok((form, vec![1, 2, 3])), "{text}");
        }
        for (text, told) in [
            (certificate, "holds no private key"),
            (String::new(), "holds no private key"),
            (of("ENCRYPTED PRIVATE KEY", "AQID"), "is encrypted"),
            (of("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAQID"), "is encrypted"),
            (of("PRIVATE KEY", "canary!"), "no base64"),
            ("-----BEGIN PRIVATE KEY-----\ncanary".to_owned(), "cut off"),
        ] {
            let fault = key(&text).expect_err(&text);
            assert!(fault.contains(told) && !fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn names_are_shown_without_what_they_are_wrapped_in() {
        assert_eq!(shown("DnsName(\"broker\")"), "broker");
        assert_eq!(shown("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(shown("broker"), "broker");
    }
}
