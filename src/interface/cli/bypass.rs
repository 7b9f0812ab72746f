//! `swarmgate bypass`: how to go round the router while it cannot run, and how to come back.
//!
//! Owns: the exact commands for one broker, virtual host and prefix, in the order in which nothing
//! is lost.
//! Never: asks or changes the broker; a person runs what is printed.
//! Holds: no password is printed; what is done twice has no further effect.

use std::fmt::Write as _;

use serde_json::json;

use super::{CliError, Exit, Globals, Out, OutputFormat, client::Addresses};
use crate::{bus::amqp, contract::command::Commands, runtime::topology};

/// What a person reads first.
const WARNING: &str = "\
While the router is gone round NOTHING is checked and NOTHING is recorded:
  no schema, no sender, no safety mode, no kill switch, no confirmation, no ledger;
  a command for a target that is not there is lost, and no command is ended for want of an answer.
Stop the router first, and keep it stopped until you come back. docs/operating/runbooks/bypass.md says more.";

/// How the script begins: it goes one way at a time, and never both.
const HEAD: &str = "\
#
# Save it as a file, and say which way: `sh FILE round` or `sh FILE back`. It ends at the first command that fails, with 1.
# The commands take an administrator of the broker: export BROKER_ADMIN=USER:PASSWORD
failed() {
    echo 'this did not work: see the broker. Nothing behind it was done; mend it and run this way again' >&2
    exit 1
}
case \"${1:-}\" in
round | back)
    : \"${BROKER_ADMIN:?export BROKER_ADMIN=USER:PASSWORD first}\"
    ;;
esac
case \"${1:-}\" in
";
/// How it ends where no way was named.
const FOOT: &str = "    ;;
*)
    echo \"say which way: sh $0 round, or sh $0 back. Nothing was done.\" >&2
    exit 2
    ;;
esac
";

/// Print how to bind `in` straight to `out` while the router cannot run, and how to come back; does
/// nothing itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  The commands for the configured broker, and the two ways:
    swarmgate bypass --config swarmgate.yaml > bypass.sh
    BROKER_ADMIN=USER:PASSWORD sh bypass.sh round
    BROKER_ADMIN=USER:PASSWORD sh bypass.sh back
  For a management API that is not on the broker's host and port 15672:
    swarmgate bypass --amqp amqp://swarmgate@broker/%2f --management http://broker:8081")]
pub struct Args {
    #[command(flatten)]
    amqp: Addresses,
    /// The broker's management API (amqp.management_url); its host on port 15672 when absent.
    #[arg(long, value_name = "URL")]
    management: Option<String>,
}

/// A step, and the commands that make it.
struct Step {
    way: &'static str,
    what: &'static str,
    commands: Vec<String>,
}

/// Prints the commands.
///
/// # Errors
/// When the config cannot be used.
pub fn run(args: &Args, globals: &Globals) -> Result<Exit, CliError> {
    let loaded = globals.config_with(args.amqp.settings())?;
    let uri = amqp::parsed(loaded.config.amqp.url.expose())
        .ok_or_else(|| CliError::usage("error: the broker's URL cannot be read"))?;
    let named = loaded.config.amqp.management_url.as_ref().map(|url| url.expose());
    let api = match args.management.as_deref().or(named) {
        Some(url) => without_user(url),
        None => format!("http://{}:15672", amqp::in_url(&uri.authority.host)),
    };
    let place = Place { api, vhost: encoded(&uri.vhost) };
    let prefix = &loaded.config.amqp.prefix;
    let steps = steps(&place, prefix, &loaded.contract.commands);
    let mut out = Out::new();
    if globals.output_or(OutputFormat::Text) == OutputFormat::Json {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| json!({ "way": step.way, "what": step.what, "commands": step.commands }))
            .collect();
        out.json(&json!({ "warning": WARNING, "prefix": prefix, "vhost": uri.vhost, "steps": steps }))?;
    } else {
        out.text(&script(&steps, prefix, &uri.vhost))?;
    }
    Ok(Exit::Done)
}

/// A URL as it may be shown: the commands take their user from the environment.
fn without_user(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

/// Where the commands go.
struct Place {
    api: String,
    vhost: String,
}

impl Place {
    fn bind(&self, from: &str, to: &str) -> String {
        let path = format!("{}/api/bindings/{}/e/{}/e/{}", self.api, self.vhost, encoded(from), encoded(to));
        curl(
            "POST",
            r##"-H 'content-type: application/json' -d '{"routing_key":"#","arguments":{}}' "##,
            &path,
        )
    }

    /// `kind` is `e` for an exchange that is bound, `q` for a queue.
    fn unbind(&self, from: &str, kind: char, to: &str, pattern: &str) -> String {
        // The API names a binding by its encoded pattern, which is encoded once more in a path.
        let name = encoded(&encoded(pattern));
        let (from, to) = (encoded(from), encoded(to));
        curl("DELETE", "", &format!("{}/api/bindings/{}/e/{from}/{kind}/{to}/{name}", self.api, self.vhost))
    }
}

/// Done again, a deletion finds nothing, which is what was wanted.
fn curl(method: &str, body: &str, url: &str) -> String {
    let gone = if method == "DELETE" { " | grep -qE '^(204|404)$'" } else { " | grep -qE '^(201|204)$'" };
    format!(
        "curl -sS -o /dev/null -w '%{{http_code}}\\n' -u \"$BROKER_ADMIN\" -X {method} {body}'{url}'{gone}"
    )
}

fn steps(place: &Place, prefix: &str, commands: &Commands) -> Vec<Step> {
    let (into, out) = (format!("{prefix}.in"), format!("{prefix}.out"));
    let declared = topology::enforce(prefix, commands);
    let lanes = declared.queues.iter().flat_map(|queue| {
        let ours = queue.bindings.iter().filter(|(exchange, _)| *exchange == into);
        ours.map(|(_, pattern)| place.unbind(&into, 'q', &queue.name, pattern))
    });
    vec![
        Step {
            way: "round",
            what: "send what comes in straight out; from here on subscribers hear it unchecked",
            commands: vec![place.bind(&into, &out)],
        },
        Step {
            way: "round",
            what: "keep it out of the router's queues, or the router would carry it a second time; what waits \
                   there stays there",
            commands: lanes.collect(),
        },
        Step {
            way: "back",
            what: "send nothing straight out any more; what comes in now waits for the router, so start it at once",
            commands: vec![place.unbind(&into, 'e', &out, "#")],
        },
        Step {
            way: "back",
            what: "start the router: it binds its queues again, and carries what waits in them",
            commands: Vec::new(),
        },
    ]
}

fn script(steps: &[Step], prefix: &str, vhost: &str) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    let _ = writeln!(
        text,
        "# Going round the router of `{prefix}` in virtual host `{vhost}`. Nothing is done yet."
    );
    for line in WARNING.lines() {
        let _ = writeln!(text, "# {line}");
    }
    text.push_str(HEAD);
    let mut way = "";
    for (number, step) in steps.iter().enumerate() {
        if step.way != way {
            text.push_str(if way.is_empty() { "" } else { "    ;;\n" });
            way = step.way;
            let _ =
                writeln!(text, "{way})\n    # --- {}", if way == "round" { "go round" } else { "come back" });
        }
        let _ = writeln!(text, "    # {}. {}", number + 1, step.what);
        for command in &step.commands {
            let _ = writeln!(text, "    {command} || failed");
        }
    }
    text.push_str(FOOT);
    text
}

/// As it stands in a path.
fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => path.push(char::from(byte)),
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_is_printed() {
        for url in ["http://u:p@broker:1/", "http://u:p%40@broker:1", "http://broker:1"] {
            assert_eq!(without_user(url), "http://broker:1");
        }
    }

    #[test]
    fn every_binding_of_a_lane_is_taken_away_and_no_other() {
        let place = Place { api: "http://broker:15672".to_owned(), vhost: encoded("/") };
        let (commands, prefix) = (Commands::default(), "swarmgate");
        let steps = steps(&place, prefix, &commands);
        let bound: usize = topology::enforce(prefix, &commands)
            .queues
            .iter()
            .map(|queue| queue.bindings.iter().filter(|(exchange, _)| exchange == "swarmgate.in").count())
            .sum();
        assert_eq!(steps.get(1).map(|step| step.commands.len()), Some(bound));
        assert!(bound > 10);
        let all: String = steps.iter().flat_map(|step| step.commands.clone()).collect();
        // What no binding takes still finds the router's queue.
        assert!(!all.contains("swarmgate.in.unknown") && !all.contains("swarmgate.refused"), "{all}");
        assert!(all.contains("/api/bindings/%2F/e/swarmgate.in/e/swarmgate.out"), "{all}");
    }
}
