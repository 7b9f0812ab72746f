//! `swarmgate inventory`: the fleet as the router knows it.
//!
//! Owns: tables of swarms and instances, what a stop reaches, and the queue graph.
//! Never: asks a worker or the broker; the router's inventory answers.
//! Holds: what is not known is shown as `-`, and never as healthy.

use super::{
    CliError, Exit, Globals, Out,
    access::{Access, Router, encoded},
    signal,
    table::{self, Table, or_nothing, yes_or_no},
};
use crate::{
    clock,
    contract::timestamp::Timestamp,
    view::{
        PAGE_MAX,
        graph::{Affected, Graph, Impact},
        inventory::{Instance, Instances, Swarm, Swarms},
    },
};

/// Show the fleet as the running router knows it.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Every swarm with its totals:
    swarmgate inventory
  The instances of one swarm:
    swarmgate inventory kestrel
  One instance whole:
    swarmgate inventory kestrel/worker/w-1
  All that is known of them, for programs:
    swarmgate inventory kestrel --output json
  Who is starved and what backs up if an instance stops:
    swarmgate inventory impact kestrel/worker/w-1")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only this swarm, instance by instance, those that are missing first; or one instance, as
    /// swarm/role/instance.
    #[arg(value_name = "SWARM[/ROLE/INSTANCE]")]
    swarm: Option<String>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Who is starved and what backs up if an instance or a queue stops.
    #[command(after_help = "EXAMPLES:
  swarmgate inventory impact kestrel/worker/w-1
  swarmgate inventory impact --queue work.generate")]
    Impact {
        /// The instance, as swarm/role/instance.
        #[arg(value_name = "INSTANCE", required_unless_present = "queue")]
        instance: Option<String>,
        /// A queue instead.
        #[arg(long, value_name = "QUEUE", conflicts_with = "instance")]
        queue: Option<String>,
    },
    /// Which instance feeds which queue.
    #[command(after_help = "EXAMPLES:
  As a picture:
    swarmgate inventory graph --dot | dot -Tsvg > graph.svg
  For programs:
    swarmgate inventory graph --output json")]
    Graph {
        /// As Graphviz reads it.
        #[arg(long)]
        dot: bool,
    },
}

/// Asks and shows.
///
/// # Errors
/// When the router cannot be asked, or does not know what was asked for.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let router = args.access.router(globals)?;
    match (args.what, args.swarm) {
        (Some(_), Some(swarm)) => Err(CliError::Usage {
            message: format!("`{swarm}` stands before the question, and it is not about one swarm"),
            help:
                "`swarmgate inventory impact --help` and `swarmgate inventory graph --help` show how to ask"
                    .to_owned(),
        }),
        (Some(What::Impact { instance, queue }), None) => impact(&router, instance, queue, globals).await,
        (Some(What::Graph { dot }), None) => graph(&router, dot, globals).await,
        (None, Some(place)) if place.contains('/') => instance(&router, &place, globals).await,
        (None, Some(swarm)) => instances(&router, &swarm, globals).await,
        (None, None) => swarms(&router, globals).await,
    }
}

async fn swarms(router: &Router, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    let answer = router.get("inventory").await?;
    if globals.is_json() {
        out.json(&answer)?;
        return Ok(Exit::Done);
    }
    let Swarms { swarms } = router.read(&answer)?;
    if swarms.is_empty() {
        out.line("no swarm has been seen, and none is expected")?;
    } else {
        out.text(&swarm_table(&swarms, clock::wall()).text())?;
    }
    Ok(Exit::Done)
}

fn swarm_table(swarms: &[Swarm], now: Timestamp) -> Table {
    let columns = [
        "swarm",
        "desired#",
        "seen#",
        "fresh#",
        "stale#",
        "lost#",
        "unheard#",
        "unwell#",
        "drifted#",
        "running#",
        "enabled#",
        "watermark#",
    ];
    let mut table = Table::new(&columns);
    for swarm in swarms {
        table.row([
            swarm.swarm_id.clone(),
            or_nothing(swarm.desired),
            swarm.seen.to_string(),
            swarm.fresh.to_string(),
            swarm.stale.to_string(),
            swarm.lost.to_string(),
            swarm.unheard.to_string(),
            swarm.unwell.to_string(),
            swarm.drifted.to_string(),
            swarm.running.to_string(),
            swarm.enabled.to_string(),
            table::ago(swarm.watermark, now),
        ]);
    }
    table
}

/// Page after page, so that a large fleet is never held whole; as JSON one page a line.
async fn instances(router: &Router, swarm: &str, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    let path = format!("inventory/{}?limit={PAGE_MAX}", encoded(swarm));
    let mut page = path.clone();
    let mut is_first = true;
    loop {
        let answer = router.get(&page).await?;
        let mut read: Instances = router.read(&answer)?;
        // Of each page: a fleet is never held whole.
        read.instances.sort_by_key(presence);
        if globals.is_json() {
            out.json(&answer)?;
        } else {
            if is_first {
                out.text(&swarm_table(std::slice::from_ref(&read.swarm), clock::wall()).text())?;
                out.line("")?;
            }
            if !read.instances.is_empty() {
                out.text(&instance_table(&read.instances).text())?;
            }
        }
        is_first = false;
        let Some(next) = read.next else { return Ok(Exit::Done) };
        page = format!("{path}&after={}", encoded(&next));
    }
}

/// How far an instance is there; who is missing comes first.
fn presence(instance: &Instance) -> u8 {
    match instance.freshness.as_deref() {
        Some("lost") => 0,
        Some("stale") => 2,
        Some("fresh") => 3,
        _ => 1,
    }
}

/// How recent what is known of it is, in words.
fn freshness(instance: &Instance) -> String {
    match instance.freshness.as_deref() {
        Some("unknown") if instance.known => "not heard since the restart".to_owned(),
        Some("unknown") if instance.expected => "expected, never heard".to_owned(),
        word => or_nothing(word),
    }
}

/// The state that the router judges by, and beside it what the instance says where that is another.
fn lifecycle(instance: &Instance) -> String {
    match (&instance.life, &instance.lifecycle) {
        (Some(life), Some(said)) if life != said => format!("{life} (says {said})"),
        (Some(life), _) => life.clone(),
        (None, said) => or_nothing(said.as_ref()),
    }
}

async fn instance(router: &Router, place: &str, globals: &Globals) -> Result<Exit, CliError> {
    let scope = signal::scope(place)?;
    let [swarm, role, name] = [&scope.swarm_id, &scope.role, &scope.instance].map(|part| encoded(part));
    let answer = router.get(&format!("inventory/{swarm}/{role}/{name}")).await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
    } else {
        out.text(&whole(&router.read(&answer)?))?;
    }
    Ok(Exit::Done)
}

/// An instance whole.
fn whole(instance: &Instance) -> String {
    let session = instance.session.as_ref();
    let names = |names: &Option<Vec<String>>| or_nothing(names.as_ref().map(|names| names.join(", ")));
    let lines = [
        ("instance", or_nothing(instance.scope.as_ref())),
        ("lifecycle", lifecycle(instance)),
        ("health", or_nothing(instance.health.as_ref())),
        ("freshness", freshness(instance)),
        ("first seen", or_nothing(instance.first_seen)),
        ("last seen", or_nothing(instance.last_seen)),
        ("enabled", yes_or_no(instance.enabled)),
        ("tps", or_nothing(instance.tps)),
        ("started at", or_nothing(instance.started_at)),
        ("run", or_nothing(instance.run_id.as_ref())),
        ("image", or_nothing(instance.image.as_ref())),
        ("config", or_nothing(instance.config_digest.as_ref())),
        ("config wanted", or_nothing(instance.desired_config_digest.as_ref())),
        ("drift", yes_or_no(instance.drift)),
        ("clock skew ms", or_nothing(instance.clock_skew_ms)),
        ("session", or_nothing(session.map(|session| format!("epoch {}, {}", session.epoch, session.phase)))),
        ("takes from", names(&instance.queues_in)),
        ("feeds", names(&instance.queues_out)),
        (
            "in flight",
            if instance.commands.is_empty() { "-".to_owned() } else { instance.commands.join(", ") },
        ),
    ];
    let told = lines.map(|(name, value)| format!("{name:<14} {}\n", table::clean(&value)));
    told.concat()
}

fn instance_table(instances: &[Instance]) -> Table {
    let columns =
        ["instance", "lifecycle", "health", "freshness", "age#", "enabled", "tps#", "drift", "image"];
    let mut table = Table::new(&columns);
    for instance in instances {
        let scope = instance.scope.as_ref();
        table.row([
            or_nothing(scope.map(|scope| format!("{}/{}", scope.role, scope.instance))),
            lifecycle(instance),
            or_nothing(instance.health.as_ref()),
            freshness(instance),
            or_nothing(instance.age_ms.map(|age_ms| table::span(u64::try_from(age_ms).unwrap_or(0)))),
            yes_or_no(instance.enabled),
            or_nothing(instance.tps),
            yes_or_no(instance.drift),
            or_nothing(instance.image.as_ref()),
        ]);
    }
    table
}

async fn impact(
    router: &Router,
    instance: Option<String>,
    queue: Option<String>,
    globals: &Globals,
) -> Result<Exit, CliError> {
    let page = match (instance, queue) {
        (Some(instance), _) => format!("impact?instance={}", encoded(&instance)),
        (None, queue) => format!("impact?queue={}", encoded(&queue.unwrap_or_default())),
    };
    let answer = router.get(&page).await?;
    let mut out = Out::new();
    if globals.is_json() {
        out.json(&answer)?;
    } else {
        out.text(&impact_text(&router.read(&answer)?))?;
    }
    Ok(Exit::Done)
}

fn impact_text(impact: &Impact) -> String {
    let mut text = String::new();
    for (title, wholly, places) in [
        ("starved", "wholly: nothing else feeds it", &impact.starved),
        ("backs up", "wholly: nothing else takes from it", &impact.backs_up),
    ] {
        let mut table = Table::new(&[title, "steps#", "how"]);
        for affected in places {
            let how = if affected.relieved { "in part: another way remains" } else { wholly };
            table.row([place(affected), or_nothing(affected.steps), how.to_owned()]);
        }
        if table.is_empty() {
            text.push_str(&format!("{title}: nothing\n"));
        } else {
            text.push_str(&table.text());
        }
    }
    if impact.truncated {
        text.push_str("and more: the walk ended at its limit\n");
    }
    text
}

/// An instance or a queue.
fn place(affected: &Affected) -> String {
    match &affected.queue {
        Some(queue) => format!("queue {queue}"),
        None => or_nothing(affected.instance.as_ref()),
    }
}

async fn graph(router: &Router, dot: bool, globals: &Globals) -> Result<Exit, CliError> {
    let mut out = Out::new();
    if dot {
        out.text(&router.text("graph?format=dot").await?)?;
        return Ok(Exit::Done);
    }
    let answer = router.get("graph").await?;
    if globals.is_json() {
        out.json(&answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["from", "to", "way"]);
    for edge in router.read::<Graph>(&answer)?.edges {
        table.row([edge.from, edge.to, edge.way].map(or_nothing));
    }
    if table.is_empty() {
        out.line("no instance has said which queues it uses")?;
    } else {
        out.text(&table.text())?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_no_zero() {
        let answer = json!({ "swarms": [
            { "swarmId": "kestrel", "desired": 3, "seen": 2, "fresh": 2, "lost": 1, "running": 1, "enabled": 1,
              "watermark": "2026-03-04T10:15:00Z" },
            { "swarmId": "owl", "desired": null, "seen": 0, "fresh": 0, "running": 0, "enabled": 0,
              "watermark": null },
        ] });
        let Swarms { swarms } = serde_json::from_value(answer).unwrap();
        let now = Timestamp::parse("2026-03-04T10:15:07Z").unwrap();
        assert_eq!(
            swarm_table(&swarms, now).text(),
            "SWARM    DESIRED  SEEN  FRESH  STALE  LOST  UNHEARD  UNWELL  DRIFTED  RUNNING  ENABLED  WATERMARK\n\
             kestrel        3     2      2      0     1        0       0        0        1        1         7s\n\
             owl            -     0      0      0     0        0       0        0        0        0          -\n"
        );
        let answer = json!({ "swarm": { "swarmId": "kestrel" }, "next": "worker/w-2", "instances": [
            { "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-1" }, "lifecycle": "RUNNING",
              "health": "UP", "freshness": "fresh", "asOf": "2026-03-04T10:15:00Z", "ageMs": 1200, "enabled": true,
              "tps": 12, "image": "worker:1.2", "drift": false, "commands": ["7"] },
            { "scope": { "swarmId": "kestrel", "role": "worker", "instance": "w-2" }, "lifecycle": null,
              "health": "UNKNOWN", "freshness": "lost", "enabled": null, "tps": null, "drift": null },
        ] });
        let read: Instances = serde_json::from_value(answer).unwrap();
        assert_eq!(read.next.as_deref(), Some("worker/w-2"));
        assert_eq!(
            instance_table(&read.instances).text(),
            "INSTANCE    LIFECYCLE  HEALTH   FRESHNESS  AGE  ENABLED  TPS  DRIFT  IMAGE\n\
             worker/w-1  RUNNING    UP       fresh       1s  yes       12  no     worker:1.2\n\
             worker/w-2  -          UNKNOWN  lost         -  -          -  -      -\n"
        );
    }

    #[test]
    fn who_is_missing_comes_first_and_the_routers_own_word_before_the_instances() {
        let answer = json!({ "swarm": { "swarmId": "kestrel" }, "instances": [
            { "freshness": "fresh", "life": "CREATED", "lifecycle": "idle" },
            { "freshness": "unknown", "known": true, "life": "RUNNING_LIVE", "lifecycle": "RUNNING_LIVE" },
            { "freshness": "unknown", "expected": true }, { "freshness": "lost" }, { "freshness": "stale" },
        ] });
        let Instances { mut instances, .. } = serde_json::from_value(answer).unwrap();
        instances.sort_by_key(presence);
        let told: Vec<_> = instances.iter().map(|one| (freshness(one), lifecycle(one))).collect();
        let row = |freshness: &str, lifecycle: &str| (freshness.to_owned(), lifecycle.to_owned());
        assert_eq!(
            told,
            [
                row("lost", "-"),
                row("not heard since the restart", "RUNNING_LIVE"),
                row("expected, never heard", "-"),
                row("stale", "-"),
                row("fresh", "CREATED (says idle)"),
            ]
        );
        let text = whole(instances.get(1).unwrap());
        assert!(text.contains("freshness      not heard since the restart\n"), "{text}");
    }

    #[test]
    fn a_reach_is_told_by_place() {
        let impact = json!({
            "of": "k/gen/g-1", "truncated": true, "backsUp": [],
            "starved": [
                { "queue": "jobs", "steps": 1, "relieved": true },
                { "instance": "k/worker/w-1", "steps": 2, "relieved": false },
            ],
        });
        let text = impact_text(&serde_json::from_value(impact).unwrap());
        assert_eq!(
            text,
            "STARVED       STEPS  HOW\n\
             queue jobs        1  in part: another way remains\n\
             k/worker/w-1      2  wholly: nothing else feeds it\n\
             backs up: nothing\n\
             and more: the walk ended at its limit\n"
        );
    }
}
