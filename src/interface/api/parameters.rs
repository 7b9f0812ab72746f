//! The part of an address behind the question mark.
//!
//! Owns: splitting and decoding it, and saying what a parameter may be.
//! Never: passes over a name that it does not know: a typing error would look like an answer.
//! Holds: each parameter is given once at most; a fault names it and what is allowed.

use crate::contract::routing::Scope;

use super::{PAGE_DEFAULT, PAGE_MAX, Problem};

/// What was given, by name.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// Reads a query in which only these names may stand.
    pub fn read(query: Option<&str>, allowed: &[&'static str]) -> Result<Self, Problem> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(known) = allowed.iter().find(|known| **known == name) else {
                return Err(Problem::parameter(format!("`{name}` is no parameter here"), listed(allowed)));
            };
            if given.iter().any(|(already, _)| already == known) {
                let detail = format!("`{known}` is given twice");
                return Err(Problem::parameter(detail, format!("give `{known}` once")));
            }
            let Some(value) = decoded(value) else {
                let detail = format!("`{known}` is not encoded as an address wants it");
                return Err(Problem::parameter(detail, "encode it as UTF-8, with %XX for bytes".to_owned()));
            };
            given.push((known, value));
        }
        Ok(Self(given))
    }

    /// The text of a parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// One of a few words; the first where none is given.
    pub fn choice(&self, name: &'static str, words: &[&'static str]) -> Result<&'static str, Problem> {
        let first = words.first().copied().unwrap_or_default();
        let Some(given) = self.text(name) else { return Ok(first) };
        words.iter().find(|word| **word == given).copied().ok_or_else(|| {
            Problem::parameter(
                format!("`{name}` is `{given}`"),
                format!("`{name}` is one of: {}", words.join(", ")),
            )
        })
    }

    /// How many rows are asked for.
    pub fn limit(&self) -> Result<usize, Problem> {
        let Some(given) = self.text("limit") else { return Ok(PAGE_DEFAULT) };
        given.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
            Problem::parameter(
                format!("`limit` is `{given}`"),
                format!("`limit` is a whole number from 1 to {PAGE_MAX}"),
            )
        })
    }

    /// A scope of so many segments, the last of them.
    pub fn segments<const COUNT: usize>(
        &self,
        name: &'static str,
        form: &str,
    ) -> Result<Option<[&str; COUNT]>, Problem> {
        let Some(given) = self.text(name) else { return Ok(None) };
        let segments: Vec<&str> = given.split('/').collect();
        match <[&str; COUNT]>::try_from(segments) {
            Ok(segments) if segments.iter().all(|segment| !segment.is_empty()) => Ok(Some(segments)),
            _ => {
                Err(Problem::parameter(format!("`{name}` is `{given}`"), format!("write `{name}` as {form}")))
            }
        }
    }

    /// A whole scope.
    pub fn scope(&self, name: &'static str) -> Result<Option<Scope>, Problem> {
        let segments = self.segments::<3>(name, "swarm/role/instance")?;
        Ok(segments.map(|[swarm, role, instance]| Scope::new(swarm, role, instance)))
    }
}

fn listed(allowed: &[&str]) -> String {
    match allowed {
        [] => "give none".to_owned(),
        _ => format!("allowed are: {}", allowed.join(", ")),
    }
}

/// Undoes percent encoding; `+` is a space, as forms send it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                bytes.push(high << 4 | low);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [&str; 3] = ["after", "limit", "state"];

    fn read(query: &str) -> Result<Parameters, Problem> {
        Parameters::read(Some(query), &ALLOWED)
    }

    #[test]
    fn values_are_decoded() {
        let given = read("after=a%2Fb+c&limit=7&").unwrap();
        assert_eq!(given.text("after"), Some("a/b c"));
        assert_eq!(given.limit(), Ok(7));
        assert_eq!(given.text("state"), None);
        assert_eq!(Parameters::read(None, &ALLOWED).unwrap().limit(), Ok(PAGE_DEFAULT));
        assert_eq!(read("state=").unwrap().text("state"), Some(""));
    }

    #[test]
    fn a_fault_names_the_parameter_and_what_is_allowed() {
        let fault = |problem: Problem| (problem.status.as_u16(), problem.detail, problem.next_step);
        for (query, detail, next) in [
            ("limt=3", "`limt` is no parameter here", "after, limit, state"),
            ("limit=3&limit=4", "`limit` is given twice", "once"),
            ("after=%zz", "`after` is not encoded", "%XX"),
            ("after=%", "`after` is not encoded", "%XX"),
            ("after=%ff", "`after` is not encoded", "UTF-8"),
        ] {
            let (status, told, step) = fault(read(query).unwrap_err());
            assert!(status == 400 && told.contains(detail) && step.contains(next), "{query}: {told}; {step}");
        }
        for limit in ["0", "1001", "-1", "ten", ""] {
            let (_, told, step) = fault(read(&format!("limit={limit}")).unwrap().limit().unwrap_err());
            assert!(
                told.contains(&format!("`{limit}`")) && step.contains("from 1 to 1000"),
                "{told}; {step}"
            );
        }
        let words = ["in-flight", "parked"];
        assert_eq!(read("").unwrap().choice("state", &words), Ok("in-flight"));
        assert_eq!(read("state=parked").unwrap().choice("state", &words), Ok("parked"));
        let (_, _, step) = fault(read("state=lost").unwrap().choice("state", &words).unwrap_err());
        assert!(step.contains("in-flight, parked"), "{step}");
    }

    #[test]
    fn scopes_have_all_their_segments() {
        assert_eq!(read("after=a/b").unwrap().segments::<2>("after", "").unwrap(), Some(["a", "b"]));
        assert_eq!(read("after=a/b/c").unwrap().scope("after").unwrap(), Some(Scope::new("a", "b", "c")));
        for bad in ["a", "a/b", "a/b/c/d", "//", "a//c", ""] {
            let problem = read(&format!("after={bad}")).unwrap().scope("after").unwrap_err();
            assert!(problem.next_step.contains("swarm/role/instance"), "{bad}: {problem:?}");
        }
    }
}
