//! How the API says no: problem details (RFC 9457) with a code and a next step.
//!
//! Owns: the closed list of codes, their statuses and their words.
//! Never: repeats a cause that only the log should hold.
//! Holds: the codes are those of docs/reference/api.md (a test compares them).

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::view::problem::ProblemDetails;

/// How soon a busy router may be asked again.
const RETRY_AFTER_S: u32 = 1;

/// A no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    pub next_step: String,
}

impl Problem {
    /// A parameter that makes no sense.
    pub fn parameter(detail: String, next_step: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "api.bad-parameter", detail, next_step)
    }

    /// What was asked for is not known.
    pub fn unknown(what: &str) -> Self {
        let detail = format!("{what} is not known to this router");
        let next =
            "see the list that it should be in; `swarmgate inventory` and `swarmgate commands` show them";
        Self::new(StatusCode::NOT_FOUND, "api.unknown", detail, next)
    }

    /// The search in the ledger came to its bound first.
    pub fn not_among_the_last(what: &str, searched: u64) -> Self {
        let detail = format!("{what} is not among the last {searched} entries of the ledger");
        let next = "ask by the command's number, or look with `swarmgate audit show --correlation ID DIR`";
        Self::new(StatusCode::NOT_FOUND, "api.unknown", detail, next)
    }

    pub fn not_observing() -> Self {
        let detail = "this router acts, and learns nothing of what an observer learns".to_owned();
        let next = "start `swarmgate observe` beside it, with an `--http` and an `--instance` of its own";
        Self::new(StatusCode::NOT_FOUND, "api.unknown", detail, next)
    }

    pub fn no_path(path: &str) -> Self {
        let detail = format!("there is nothing at `{path}`");
        Self::new(StatusCode::NOT_FOUND, "api.no-such-path", detail, "docs/reference/api.md lists the paths")
    }

    pub fn read_only() -> Self {
        let next = "use GET; to change something, put a signal on the bus (`swarmgate send`)";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "api.read-only", "this API only answers".to_owned(), next)
    }

    pub fn foreign_host() -> Self {
        let detail = "the Host header is a name, and a name may be somebody else's".to_owned();
        let next = "ask by the router's address, or by `localhost`";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "api.foreign-host", detail, next)
    }

    pub fn starting() -> Self {
        Self::later("api.starting", "the router reads its ledger and does not stand yet")
    }

    pub fn stopping() -> Self {
        Self::later("api.stopping", "the router is stopping")
    }

    pub fn busy() -> Self {
        Self::later("api.busy", "the router has no time for questions now; envelopes come first")
    }

    pub fn ledger() -> Self {
        let next = "ask again in a moment; `swarmgate doctor --ledger DIR` looks at the ledger";
        let detail = "the ledger, which tells of ended commands, cannot be read".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api.ledger", detail, next)
    }

    fn later(code: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail.to_owned(), "ask again in a moment")
    }

    fn new(status: StatusCode, code: &'static str, detail: String, next_step: impl Into<String>) -> Self {
        Self { status, code, detail, next_step: next_step.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let page = ProblemDetails {
            code: self.code.to_owned(),
            detail: self.detail,
            next_step: self.next_step,
            status: self.status.as_u16(),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            kind: "about:blank".to_owned(),
        };
        let headers = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response =
            (self.status, headers, serde_json::to_string(&page).unwrap_or_default()).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_problem_is_told_as_the_standard_says() {
        let response = Problem::busy().into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            page,
            json!({
                "type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "api.busy",
                "detail": "the router has no time for questions now; envelopes come first",
                "nextStep": "ask again in a moment",
            })
        );
    }

    #[test]
    fn the_codes_are_those_of_the_page() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/api.md"));
        let all = [
            Problem::parameter(String::new(), String::new()),
            Problem::unknown(""),
            Problem::no_path(""),
            Problem::read_only(),
            Problem::foreign_host(),
            Problem::starting(),
            Problem::stopping(),
            Problem::busy(),
            Problem::ledger(),
        ];
        for problem in &all {
            let row = format!("| `{}` | {} |", problem.code, problem.status.as_u16());
            assert!(page.contains(&row), "the page has no row `{row}`");
        }
        assert_eq!(page.matches("| `api.").count(), all.len());
    }
}
