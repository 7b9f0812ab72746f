//! `swarmgate refused replay`: what was refused is sent again, by whoever replays it.
//!
//! Owns: what may be sent again, the replayer's own message of it, and the wait for its verdict.
//! Never: speaks in the first sender's name, or confirms for anybody.
//! Holds: a copy leaves the queue once its replay is with the broker; 0 means that the router took
//! every one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{super::echo::whole, CliError, Exit, Globals, Out, reason_of};
use crate::{
    bus::{Bus, Consumer, Delivery, Departure, Fate, Settler},
    clock,
    config::Loaded,
    contract::{
        command::{Class, Commands},
        envelope::origin_instance,
        message::{Message, Properties},
        passage::{MESSAGE_ID, PREFIX, REPLAY_KEY, USER_ID, replaying},
        reason::Reason,
        strict::{self, Limits},
    },
    interface::cli::{access::Router, client, commands},
    view::commands::Command,
};

/// How long the broker may take to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the router may take to judge, from the last send on.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two looks at what is not judged yet.
const PAUSE: Duration = Duration::from_millis(100);
/// Headers of the broker's own on a message that has been elsewhere.
const OF_BROKER: [&str; 2] = ["x-death", "x-first-death-queue"];

/// Where copies are sent, and who is asked what became of them.
pub struct ReplayRoute<'a> {
    pub bus: &'a dyn Bus,
    pub settler: &'a dyn Settler,
    pub loaded: &'a Loaded,
    /// Who replays: the connected user.
    pub user: String,
    pub router: Router,
}

/// What became of a copy.
enum End {
    /// It stays where it was, because of that.
    Stays(String),
    /// The router took it; how it stands.
    Taken(String),
    /// The router refused it again, or it ended at once without success.
    Refused(String),
    /// Nobody knows in time.
    Unknown,
}

/// A copy that was sent again.
struct Sent {
    /// The refused copy's message-id.
    id: String,
    routing_key: String,
    key: String,
}

impl ReplayRoute<'_> {
    /// Sends each copy again, and tells what became of it.
    ///
    /// # Errors
    /// When the broker or the router cannot be used.
    pub async fn replay(
        &self,
        chosen: Vec<&Delivery>,
        globals: &Globals,
        out: &mut Out,
    ) -> Result<Exit, CliError> {
        // What cannot be waited for is not sent.
        self.router.get("overview").await?;
        let prefix = &self.loaded.config.amqp.prefix;
        let every = vec![(format!("{prefix}.refused"), "#".to_owned())];
        let mut copies = client::listen(self.bus, prefix, every).await?;
        let publisher = self.bus.publisher().await?;
        let (mut sent, mut count, mut exit) = (BTreeMap::new(), 0, Exit::Done);
        for copy in &chosen {
            let (message, again) = match self.again(&copy.message) {
                Ok(again) => again,
                Err(why) => {
                    exit = exit.max(tell(&copy.message, &End::Stays(why), globals, out)?);
                    continue;
                }
            };
            let message_id = message.properties.message_id.clone().unwrap_or_default();
            let departure = Departure { message, mandatory: true };
            let fates = publisher.publish(&[&departure], CONFIRM_TIMEOUT).await?;
            if fates == [Fate::Carried] {
                self.settler.ack(copy.tag, false).await?;
                sent.insert(message_id, again);
                count += 1;
            } else {
                let why = format!("the broker did not take it ({fates:?})");
                exit = exit.max(tell(&copy.message, &End::Stays(why), globals, out)?);
            }
        }
        exit = exit.max(self.verdicts(copies.as_mut(), sent, globals, out).await?);
        if !globals.is_json() {
            out.line(&format!("{count} of {} sent again", chosen.len()))?;
        }
        Ok(exit)
    }

    /// The replayer's own message of a copy; why there is none.
    fn again(&self, copy: &Message) -> Result<(Message, Sent), String> {
        let properties = &copy.properties;
        let limits = Limits { body_bytes_max: copy.body.len().max(1), ..self.loaded.config.limits.into() };
        let unread = || "its body cannot be read; its sender sends it anew, mended".to_owned();
        let tree = strict::parse(&copy.body, &limits).map_err(|_| unread())?;
        let mut body = tree.root().to_value();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (origin, kind_type) = (text("origin"), text("type"));
        let other = |user: &str| user != origin_instance(&origin);
        if reason_of(copy) == Reason::OriginMismatch.code()
            || properties.header_text(USER_ID).is_some_and(other)
        {
            return Err("its sender is not who its `origin` says, so nobody sends it again".to_owned());
        }
        if text("kind") != "signal" {
            return Err("only signals are sent again; the rest is said anew by its own sender".to_owned());
        }
        let class = Commands::default().get(&kind_type).map(|row| row.class);
        if matches!(class, Some(Class::Consent | Class::Liveness)) {
            return Err(format!("a `{kind_type}` is said by whom it is of, and by nobody for him"));
        }
        let Some(id) = properties.message_id.clone() else {
            return Err("it has no message-id by which it could be told from others".to_owned());
        };
        let key = format!("{REPLAY_KEY}{id}");
        let new = || Uuid::now_v7().to_string();
        let correlation_id = Some(text("correlationId")).filter(|id| !id.is_empty()).unwrap_or_else(new);
        let fields = body.as_object_mut().ok_or_else(unread)?;
        for (name, value) in [
            ("origin", self.user.clone().into()),
            ("timestamp", json!(clock::wall())),
            ("correlationId", correlation_id.into()),
            ("idempotencyKey", key.clone().into()),
        ] {
            fields.insert(name.to_owned(), value);
        }
        let is_senders = |name: &str| {
            let is_ours = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
            !is_ours && !OF_BROKER.contains(&name)
        };
        let mut headers = replaying(properties, &id);
        headers.extend(properties.headers.iter().filter(|(name, _)| is_senders(name)).cloned());
        let message = Message {
            exchange: format!("{}.in", self.loaded.config.amqp.prefix),
            routing_key: copy.routing_key.clone(),
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                headers,
                delivery_mode: Some(2),
                message_id: Some(new()),
                user_id: Some(self.user.clone()),
                ..Properties::default()
            },
            body: body.to_string().into(),
        };
        Ok((message, Sent { id, routing_key: copy.routing_key.clone(), key }))
    }

    /// Waits until the router has judged what was sent. A no is heard as its copy, a yes is asked
    /// for.
    async fn verdicts(
        &self,
        copies: &mut dyn Consumer,
        mut sent: BTreeMap<String, Sent>,
        globals: &Globals,
        out: &mut Out,
    ) -> Result<Exit, CliError> {
        let (until, mut exit) = (Instant::now() + VERDICT_TIMEOUT, Exit::Done);
        while !sent.is_empty() && Instant::now() < until {
            let heard = tokio::time::timeout(PAUSE, copies.next(64)).await;
            for copy in heard.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
                let again = copy.message.properties.header_text(MESSAGE_ID).and_then(|id| sent.remove(id));
                let Some(again) = again else { continue };
                let detail = copy.message.properties.header_text("x-swarmgate-detail").unwrap_or_default();
                let end = End::Refused(format!("{}: {detail}", reason_of(&copy.message)));
                exit = exit.max(tell_of(&again, &end, globals, out)?);
            }
            let mut judged = Vec::new();
            for (message_id, again) in &sent {
                let command: Command = match self.router.page(&commands::path(&again.key)).await {
                    Ok(command) => command,
                    Err(fault) if fault.is_unknown() || fault.is_passing() => continue,
                    Err(fault) => return Err(fault.into()),
                };
                let how = format!("command {}: {}", command.id, command.standing());
                let end = if command.success == Some(false) { End::Refused(how) } else { End::Taken(how) };
                exit = exit.max(tell_of(again, &end, globals, out)?);
                judged.push(message_id.clone());
            }
            sent.retain(|message_id, _| !judged.contains(message_id));
        }
        for again in sent.values() {
            exit = exit.max(tell_of(again, &End::Unknown, globals, out)?);
        }
        Ok(exit)
    }
}

fn tell(copy: &Message, end: &End, globals: &Globals, out: &mut Out) -> Result<Exit, CliError> {
    let id = copy.properties.message_id.clone().unwrap_or_default();
    let of = Sent { id, routing_key: copy.routing_key.clone(), key: String::new() };
    tell_of(&of, end, globals, out)
}

fn tell_of(of: &Sent, end: &End, globals: &Globals, out: &mut Out) -> Result<Exit, CliError> {
    let (word, detail, exit) = match end {
        End::Stays(why) => ("stays", why.as_str(), Exit::Fault),
        End::Taken(how) => ("taken", how.as_str(), Exit::Done),
        End::Refused(why) => ("refused again", why.as_str(), Exit::Refused),
        End::Unknown => {
            ("unknown", "the router said neither yes nor no in time; see `swarmgate commands`", Exit::Fault)
        }
    };
    if globals.is_json() {
        let key = Some(&of.key).filter(|key| !key.is_empty());
        out.json(&json!({
            "id": of.id, "routingKey": of.routing_key, "idempotencyKey": key, "end": word, "detail": detail,
        }))?;
    } else {
        out.line(&whole(&format!("{}  {}  {word}: {detail}", of.id, of.routing_key)))?;
    }
    Ok(exit)
}
