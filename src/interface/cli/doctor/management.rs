//! RabbitMQ's management API, as far as `doctor` asks it.
//!
//! Owns: one GET at a time over plain HTTP, bounded in time and size.
//! Never: changes anything there, or follows a redirect.
//! Holds: the password goes into the request's head and nowhere else; an API that once did not
//! answer in time is not asked again, so that looking never takes long.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use base64::Engine as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{bus::amqp, clock, contract::timestamp::Timestamp};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Where it listens unless said otherwise.
const PORT: u16 = 15672;
/// How many rows a page has, and how many pages are read.
const PAGE_ROWS: usize = 500;
const PAGES_MAX: usize = 20;
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A management API that answered.
pub struct Management {
    address: String,
    authorization: String,
    /// An answer did not come in time.
    is_slow: AtomicBool,
    /// The broker's release.
    pub version: Option<String>,
    /// The vhost, as it stands in a path.
    pub vhost: String,
    /// The vhost's name.
    pub vhost_name: String,
    /// How far the broker's clock is from ours, in seconds.
    pub clock_skew_s: Option<i64>,
    /// The largest message the broker takes, where it tells.
    pub message_bytes_max: Option<u64>,
}

impl Management {
    /// Asks the API at `url`, or at the broker's host, as the user of that URL, or else the
    /// broker's.
    pub async fn open(url: Option<&str>, broker: &str) -> Result<Self, String> {
        let uri = amqp::parsed(broker).ok_or_else(|| "the broker's URL cannot be read".to_owned())?;
        let user = uri.authority.userinfo.username;
        let (mut address, mut authorization) = (
            format!("{}:{PORT}", amqp::in_url(&uri.authority.host)),
            basic(&user, &uri.authority.userinfo.password),
        );
        if let Some(url) = url {
            let rest = url.strip_prefix("http://").ok_or("only http:// is spoken")?;
            let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
            let place = place.trim_end_matches('/');
            let has_port = place.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
            address = if has_port { place.to_owned() } else { format!("{place}:{PORT}") };
            if let Some(who) = who {
                let (name, password) = who.split_once(':').unwrap_or((who, ""));
                authorization = basic(&decoded(name), &decoded(password));
            }
        }
        let mut management = Self {
            address,
            authorization,
            is_slow: AtomicBool::new(false),
            version: None,
            vhost: encoded(&uri.vhost),
            vhost_name: uri.vhost,
            clock_skew_s: None,
            message_bytes_max: None,
        };
        let (head, overview) = management.ask("/api/overview", &management.authorization).await?;
        management.clock_skew_s = skew(&head);
        let limit = overview.get("max_message_size").or_else(|| overview.pointer("/limits/max_message_size"));
        management.message_bytes_max = limit.and_then(Value::as_u64);
        management.version = overview.get("rabbitmq_version").and_then(Value::as_str).map(str::to_owned);
        Ok(management)
    }

    /// Every queue of the virtual host, those columns of it, and whether that is all of them.
    pub async fn queues(&self, columns: &str) -> Result<(Vec<Value>, bool), String> {
        let mut rows = Vec::new();
        for page in 1..=PAGES_MAX {
            let path =
                format!("/api/queues/{}?page={page}&page_size={PAGE_ROWS}&columns={columns}", self.vhost);
            let answer = self.get(&path).await?;
            let found = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            rows.extend(found);
            let pages = answer.get("page_count").and_then(Value::as_u64).unwrap_or_default();
            if page as u64 >= pages {
                return Ok((rows, true));
            }
        }
        Ok((rows, false))
    }

    /// The JSON at a path.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(path, &self.authorization).await.map(|(_, body)| body)
    }

    /// Whether the user that every broker comes with still has its password.
    pub async fn guest_can_log_in(&self) -> bool {
        self.ask("/api/whoami", &basic("guest", "guest")).await.is_ok()
    }

    async fn ask(&self, path: &str, authorization: &str) -> Result<(String, Value), String> {
        let slow = || format!("no answer within {} s", TIMEOUT.as_secs());
        if self.is_slow.load(Ordering::Relaxed) {
            return Err(slow());
        }
        let asked = tokio::time::timeout(TIMEOUT, exchange(&self.address, path, authorization)).await;
        let Ok(answer) = asked else {
            self.is_slow.store(true, Ordering::Relaxed);
            return Err(slow());
        };
        let answer = answer.map_err(|fault| fault.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer that is not HTTP")?;
        let status = head.split_whitespace().nth(1).unwrap_or("no status");
        let short = path.split('?').next().unwrap_or(path);
        if status != "200" {
            return Err(format!("{short} answered {status}"));
        }
        let body =
            serde_json::from_str(body).map_err(|fault| format!("{short} answered no JSON: {fault}"))?;
        Ok((head.to_owned(), body))
    }
}

fn basic(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

/// A name as it stands in a path.
pub fn encoded(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// A user or password as it is meant, where it stands in a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| str::from_utf8(code).ok());
        let (byte, left) = match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => (byte, behind.get(2..).unwrap_or_default()),
            None => (*first, behind),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// HTTP/1.0, so that the answer comes whole and unchunked.
async fn exchange(address: &str, path: &str, authorization: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {authorization}\r\nAccept: application/json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// How far the `date` of an answer's head is from our clock.
fn skew(head: &str) -> Option<i64> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("date:"))?;
    let date = chrono::DateTime::parse_from_rfc2822(line.split_once(':')?.1.trim()).ok()?;
    Some(Timestamp::from_micros(date.timestamp_micros()).ms_since(clock::wall()) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_paths_and_passwords_in_urls() {
        assert_eq!(encoded("/"), "%2F");
        assert_eq!(encoded("a b%\u{e4}.q"), "a%20b%25%C3%A4.q");
        assert_eq!(decoded("p%40ss%2"), "p@ss%2");
    }
}
