//! The broker's URL, whose password nobody sees.
//!
//! Owns: the one value of the config that holds a secret, and its masked form.
//! Never: prints, logs or serialises the password; only `expose` gives it out, to the driver.
//! Holds: `Debug`, `Display` and `Serialize` all give the masked form.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// The default, which every RabbitMQ has out of the box and lets in from its own machine only.
pub const DEFAULT_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// `amqp://user:password@host:port/vhost`, or `amqps://`; of the management API
/// `http://user:password@host:port`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// Wraps a URL, unchecked.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password: for the driver only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it names a user.
    pub fn has_user(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.rsplit_once('@').is_some_and(|(user, _)| !user.is_empty() && !user.starts_with(':'))
    }

    /// What is wrong with it, in words that do not repeat it.
    pub fn fault(&self) -> Option<&'static str> {
        let rest = self.0.strip_prefix("amqp://").or_else(|| self.0.strip_prefix("amqps://"));
        self.place_fault(rest.ok_or("does not begin with `amqp://` or `amqps://`"))
    }

    /// The same, of the management API's.
    pub fn management_fault(&self) -> Option<&'static str> {
        self.place_fault(self.0.strip_prefix("http://").ok_or("does not begin with `http://`"))
    }

    fn place_fault(&self, rest: Result<&str, &'static str>) -> Option<&'static str> {
        let rest = match rest {
            Ok(rest) => rest,
            Err(fault) => return Some(fault),
        };
        if self.0.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return Some("holds a space or a control character");
        }
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host = host.split(['/', '?']).next().unwrap_or_default();
        if host.contains(',') {
            return Some("names several hosts; write a whole URL for each, in `amqp.urls`");
        }
        host.split(':').next().is_none_or(str::is_empty).then_some("names no host")
    }
}

/// How many addresses a broker may have.
pub const URLS_MAX: usize = 16;

/// A text of URLs with commas between them. A comma that no URL follows belongs to a password.
pub fn split(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let (mut from, mut look) = (0, 0);
    while let Some(comma) = text.get(look..).and_then(|rest| rest.find(',')).map(|at| look + at) {
        look = comma + 1;
        let rest = text.get(look..).unwrap_or_default().trim_start();
        let is_scheme = |(scheme, _): (&str, &str)| scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
        if rest.is_empty() || rest.split_once("://").is_some_and(is_scheme) {
            urls.push(text.get(from..comma).unwrap_or_default());
            from = look;
        }
    }
    urls.push(text.get(from..).unwrap_or_default());
    urls.into_iter().map(str::trim).filter(|url| !url.is_empty()).collect()
}

impl Default for BrokerUrl {
    fn default() -> Self {
        Self::new(DEFAULT_URL)
    }
}

impl fmt::Display for BrokerUrl {
    /// Everything from the first colon after the scheme to the last `@` is masked, and every query
    /// value, so that no mistake in escaping lets a part of the password through.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return out.write_str("***") };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (user.split(':').next(), place),
            None => (None, rest),
        };
        write!(out, "{scheme}://")?;
        if let Some(user) = user {
            write!(out, "{user}:***@")?;
        }
        match place.split_once('?') {
            Some((place, _)) => write!(out, "{place}?***"),
            None => out.write_str(place),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_shows_the_password() {
        for (url, masked) in [
            ("amqp://guest:canary@h:5672/%2f", "amqp://guest:***@h:5672/%2f"),
            ("amqps://u:ca/na:canary@ry@h/v", "amqps://u:***@h/v"),
            ("amqp://h/v?password=canary", "amqp://h/v?***"),
            ("amqp://h:5672", "amqp://h:5672"),
            ("http://m:canary@h:15672", "http://m:***@h:15672"),
            ("canary", "***"),
        ] {
            let url = BrokerUrl::new(url);
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(
                (url.to_string(), format!("{url:?}"), json),
                (masked.into(), masked.into(), format!("\"{masked}\""))
            );
            assert!(!url.to_string().contains("canary"));
        }
    }

    #[test]
    fn urls_are_told_apart_and_passwords_are_left_whole() {
        for (text, urls) in [
            ("amqp://a", vec!["amqp://a"]),
            ("amqp://u:p,q@a/v, amqps://u:,@b/v,", vec!["amqp://u:p,q@a/v", "amqps://u:,@b/v"]),
            ("amqp://a,b", vec!["amqp://a,b"]),
            (" , ", vec![]),
        ] {
            assert_eq!(split(text), urls, "{text}");
        }
    }

    #[test]
    fn faults_are_found() {
        for good in [DEFAULT_URL, "amqps://u:p@broker", "amqp://broker:1"] {
            assert_eq!(BrokerUrl::new(good).fault(), None, "{good}");
        }
        for bad in [
            "amqp://u:p@one,two/v",
            "amqp://one:1,amqp://two:1",
            "",
            "http://x",
            "amqp://",
            "amqp://u:p@/v",
            "amqp://u:p@:5672",
            "amqp://a b",
        ] {
            assert!(BrokerUrl::new(bad).fault().is_some(), "{bad}");
        }
        for good in ["http://h", "http://u:p@h:1"] {
            assert_eq!(BrokerUrl::new(good).management_fault(), None, "{good}");
        }
        for bad in ["", "https://h", "http://", "http://u:p@", "http://a b"] {
            assert!(BrokerUrl::new(bad).management_fault().is_some(), "{bad}");
        }
    }
}
