//! The way to a running router: its API over HTTP, asked from the command line.
//!
//! Owns: where the API is, one request, and what can come between.
//! Never: keeps a connection, follows a redirect, or takes an answer that is larger than
//! `ANSWER_BYTES_MAX`.
//! Holds: a router that is not there is told with the address that was tried and how to name
//! another.

use std::{io, net::IpAddr, time::Duration};

use axum::body::Body;
use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

pub use super::access_error::AccessError;
use super::{CliError, Globals};
use crate::view::problem::ProblemDetails;

/// How long the router may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer: the whole graph of a large fleet.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// The heading of the options that say where router and broker are.
pub(super) const WHERE: &str = "Router and broker";

/// The flag that every question takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// Where the running router answers; by default at http.addr of the config.
    #[arg(long, global = true, value_name = "URL", env = "SWARMGATE_API", help_heading = WHERE)]
    api: Option<String>,
}

impl Access {
    /// Whether an address was given, by flag or environment.
    pub fn is_named(&self) -> bool {
        self.api.is_some()
    }

    /// The router to ask.
    ///
    /// # Errors
    /// When the URL or the config makes no sense.
    pub fn router(&self, globals: &Globals) -> Result<Router, CliError> {
        if let Some(url) = &self.api {
            return Ok(Router::at(url)?);
        }
        let mut address = globals.config()?.config.http.addr;
        // What listens everywhere is asked on this machine.
        address.set_ip(match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        });
        Ok(Router::at(&format!("http://{address}"))?)
    }
}

/// A running router, by the address of its API.
#[derive(Clone, Debug)]
pub struct Router {
    url: String,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Router {
    /// The router at that URL.
    ///
    /// # Errors
    /// When it is no `http` URL with a host.
    pub fn at(url: &str) -> Result<Self, AccessError> {
        let fault = || AccessError::Address { url: url.to_owned() };
        let parsed: Uri = url.parse().map_err(|_| fault())?;
        let authority = parsed.authority().ok_or_else(fault)?;
        if parsed.scheme_str() != Some("http") || parsed.query().is_some() || authority.as_str().contains('@')
        {
            return Err(fault());
        }
        let path = parsed.path().trim_end_matches('/').to_owned();
        Ok(Self {
            url: format!("http://{authority}{path}"),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(HTTP_PORT),
            authority: authority.to_string(),
            path,
        })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for a page below `/api/v1`, as JSON.
    ///
    /// # Errors
    /// When the router cannot be reached or says no.
    pub async fn get(&self, page: &str) -> Result<Value, AccessError> {
        let (status, body) = self.fetch(page).await?;
        let stranger = || AccessError::Stranger { url: self.url.clone(), status: status.as_u16() };
        serde_json::from_slice(&body).map_err(|_| stranger())
    }

    /// Asks for a page below `/api/v1`, as what it is.
    ///
    /// # Errors
    /// When the router cannot be reached or says no, or the page has another shape.
    pub async fn page<T: DeserializeOwned>(&self, page: &str) -> Result<T, AccessError> {
        self.read(&self.get(page).await?)
    }

    /// Reads an answer of that shape.
    ///
    /// # Errors
    /// When it has another: whatever answered is no router of this release.
    pub fn read<T: DeserializeOwned>(&self, answer: &Value) -> Result<T, AccessError> {
        T::deserialize(answer).map_err(|_| AccessError::Stranger { url: self.url.clone(), status: 200 })
    }

    /// Asks for a page below `/api/v1`, as text.
    ///
    /// # Errors
    /// When the router cannot be reached or says no.
    pub async fn text(&self, page: &str) -> Result<String, AccessError> {
        let (_, body) = self.fetch(page).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks for a page of the window beside the API (`metrics`, `readyz`), whatever its status.
    ///
    /// # Errors
    /// When the router cannot be reached.
    pub async fn window(&self, page: &str) -> Result<(u16, String), AccessError> {
        let (status, body) = self.patiently(page).await?;
        Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }

    async fn fetch(&self, page: &str) -> Result<(StatusCode, Vec<u8>), AccessError> {
        let (status, body) = self.patiently(&format!("api/v1/{page}")).await?;
        if status == StatusCode::OK { Ok((status, body)) } else { Err(self.no(status, &body)) }
    }

    async fn patiently(&self, page: &str) -> Result<(StatusCode, Vec<u8>), AccessError> {
        let silent = || AccessError::Silent { url: self.url.clone() };
        tokio::time::timeout(ANSWER_TIMEOUT, self.asked(page)).await.map_err(|_| silent())?
    }

    async fn asked(&self, page: &str) -> Result<(StatusCode, Vec<u8>), AccessError> {
        let unreachable = |source| AccessError::Unreachable { url: self.url.clone(), source };
        let broke_off = |source| AccessError::BrokeOff { url: self.url.clone(), source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        // It ends with the sender, which is dropped here.
        tokio::spawn(connection);
        let path = format!("{}/{page}", self.path);
        let request = Request::get(path)
            .header(header::HOST, &self.authority)
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("swarmgate/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|_| AccessError::Address { url: self.url.clone() })?;
        let response = sender.send_request(request).await.map_err(broke_off)?;
        let status = response.status();
        let body = axum::body::to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|fault| unreachable(io::Error::other(fault)))?;
        Ok((status, body.to_vec()))
    }

    fn no(&self, status: StatusCode, body: &[u8]) -> AccessError {
        match serde_json::from_slice(body) {
            Ok(ProblemDetails { code, detail, next_step, .. }) => {
                AccessError::Refused { status: status.as_u16(), code, detail, next_step }
            }
            Err(_) => AccessError::Stranger { url: self.url.clone(), status: status.as_u16() },
        }
    }
}

/// A segment of a path or a value of a query, with everything encoded that may mean something
/// there.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        // Dots alone would be a way up.
        b'.' if text.bytes().any(|byte| byte != b'.') => ".".to_owned(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let router = Router::at("http://127.0.0.1:8080/").unwrap();
        assert_eq!(
            (router.host.as_str(), router.port, router.url()),
            ("127.0.0.1", 8080, "http://127.0.0.1:8080")
        );
        let router = Router::at("http://[::1]/gate").unwrap();
        assert_eq!((router.host.as_str(), router.port, router.path.as_str()), ("::1", 80, "/gate"));
        for bad in
            ["", "127.0.0.1:8080", "https://h", "http://", "http://u:p@h", "http://h?x=1", "ftp://h", "a b"]
        {
            let fault = Router::at(bad).unwrap_err();
            assert!(fault.help().contains("--api"), "{bad}");
        }
    }

    #[test]
    fn what_may_mean_something_is_encoded() {
        assert_eq!(encoded("w-1_a.b~"), "w-1_a.b~");
        assert_eq!(encoded("a/b?c&d=é %"), "a%2Fb%3Fc%26d%3D%C3%A9%20%25");
        assert_eq!((encoded(".."), encoded("a..")), ("%2E%2E".to_owned(), "a..".to_owned()));
    }

    #[tokio::test]
    async fn a_router_that_is_not_there_is_told_with_its_address() {
        // A port that was free a moment ago.
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let fault = Router::at(&format!("http://{free}")).unwrap().get("overview").await.unwrap_err();
        assert!(fault.to_string().contains(&free.to_string()), "{fault}");
        assert!(fault.is_passing() && fault.help().contains("--api"));
    }
}
