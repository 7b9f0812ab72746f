//! RabbitMQ's management API, as far as `doctor` asks it.
//!
//! Owns: one GET at a time over plain HTTP/1.1, bounded in time and size.
//! Never: changes anything there, or follows a redirect.
//! Holds: the password goes into the request's head and nowhere else.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{contract::timestamp::Timestamp, runtime::clock};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A management API that answered.
pub struct Management {
    address: String,
    authorization: String,
    /// Who asks.
    pub user: String,
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
    /// Asks the API at `url`, or at the broker's host on port 15672, with the broker's user.
    pub async fn open(url: Option<&str>, amqp: &str) -> Result<Self, String> {
        let uri: lapin::uri::AMQPUri =
            amqp.parse().map_err(|_| "the broker's URL cannot be read".to_owned())?;
        let address = match url {
            None => format!("{}:15672", uri.authority.host),
            Some(url) => {
                let rest = url.strip_prefix("http://").ok_or("only http:// is spoken")?;
                rest.trim_end_matches('/').to_owned()
            }
        };
        let user = uri.authority.userinfo.username;
        let mut management = Self {
            address,
            authorization: basic(&user, &uri.authority.userinfo.password),
            user,
            vhost: uri.vhost.replace('%', "%25").replace('/', "%2F"),
            vhost_name: uri.vhost,
            clock_skew_s: None,
            message_bytes_max: None,
        };
        let (head, overview) = management.ask("/api/overview", &management.authorization).await?;
        management.clock_skew_s = skew(&head);
        let limit = overview.get("max_message_size").or_else(|| overview.pointer("/limits/max_message_size"));
        management.message_bytes_max = limit.and_then(Value::as_u64);
        Ok(management)
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
        let asked = tokio::time::timeout(TIMEOUT, exchange(&self.address, path, authorization));
        let answer =
            asked.await.map_err(|_| "no answer in time".to_owned())?.map_err(|fault| fault.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer that is not HTTP")?;
        let status = head.split_whitespace().nth(1).unwrap_or("no status");
        if status != "200" {
            return Err(format!("{path} answered {status}"));
        }
        let body = serde_json::from_str(body).map_err(|fault| format!("{path} answered no JSON: {fault}"))?;
        Ok((head.to_owned(), body))
    }
}

fn basic(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
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
