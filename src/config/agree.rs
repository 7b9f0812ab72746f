//! What has to agree across settings.
//!
//! Owns: the faults of settings that are each good and cannot stand together, and the warnings of
//! such as nobody reads.
//! Never: judges a value by itself; its row has done that.
//! Holds: each fault points at the setting to change, where that was set.

use super::{
    Config, Environment, IdentityMode,
    bootstrap::{BootstrapMode, SecretMode, Transport},
    fields::FIELDS,
    merge::Merge,
    safety::reporter_faults,
    supervisor,
    wrong::Wrong,
};
use crate::{
    bus::amqp,
    contract::{command::Commands, lane::Lane},
};

const TRANSPORT: &str = "runtime.platform.execution_ipc.transport";
const SECRET_REF: &str = "runtime.platform.execution_ipc.auth.secret_ref";

/// Tells `merge` what in the config cannot stand together.
pub(super) fn agree(config: &Config, merge: &mut Merge) {
    environment(config, merge);
    let mut places = config.amqp.addresses().iter().map(|url| amqp::user_and_vhost(url.expose()));
    let first = places.next();
    if places.any(|place| Some(place) != first) {
        let wrong = Wrong::new(
            "`amqp.urls` names several users or virtual hosts: its URLs are nodes of one broker",
            "give each the same user and virtual host; passwords may differ",
        );
        merge.fault_of("amqp.urls", wrong);
    }
    tls(config, merge);
    if config.amqp.reconnect_min_ms > config.amqp.reconnect_max_ms {
        let wrong = Wrong::new(
            "`amqp.reconnect_min_ms` is above `amqp.reconnect_max_ms`",
            "lower the first pause or raise the longest",
        );
        merge.fault_of("amqp.reconnect_min_ms", wrong);
    }
    // Each lane takes one message at least.
    if config.amqp.in_flight_bytes_max / Lane::ALL.len() < config.limits.body_bytes_max {
        let wrong = Wrong::new(
            "`amqp.in_flight_bytes_max` is below four times `limits.body_bytes_max`, so the largest body of each lane would be more",
            "raise the first or lower the second",
        );
        merge.fault_of("amqp.in_flight_bytes_max", wrong);
    }
    if config.parking.bytes_max < config.limits.body_bytes_max {
        let wrong = Wrong::new(
            "`parking.bytes_max` is below `limits.body_bytes_max`, so the largest command could never wait for its target",
            "raise the first or lower the second",
        );
        merge.fault_of("parking.bytes_max", wrong);
    }
    remembered(config, merge);
    for (path, wrong) in config.consent.faults() {
        merge.fault_of(path, wrong);
    }
    if let Some(wrong) = reporter_faults(&config.safety) {
        merge.fault_of("safety.gate_reporters", wrong);
    }
    bootstrap(config, merge);
    supervisor::agree(config, merge);
}

/// What is forgotten before it ends could not be taken back once a stop has ended it, and a late
/// start would find no stop.
fn remembered(config: &Config, merge: &mut Merge) {
    let commands = Commands::default().with_deadlines(|kind_type| config.deadlines.of(kind_type));
    let built_in = commands.iter().filter_map(|row| Some((row.deadline_ms?, &row.kind_type)));
    let own = config.types.iter().map(|row| (row.deadline_ms, &row.kind_type));
    let longest = built_in.chain(own).max();
    let Some((deadline_ms, kind_type)) = longest else { return };
    let needed_ms = deadline_ms.saturating_add(config.consent.window_ms);
    if config.idempotency.window_ms < needed_ms {
        let wrong = Wrong::new(
            format!(
                "`idempotency.window_ms` is below {needed_ms}, the deadline of `{kind_type}` and `consent.window_ms` together: a command would be forgotten before it ends"
            ),
            "raise it, or lower that deadline",
        );
        merge.fault_of("idempotency.window_ms", wrong);
    }
}

/// Certificates without the key to one, and certificates that nothing is encrypted with.
fn tls(config: &Config, merge: &mut Merge) {
    let tls = &config.amqp.tls;
    let set = [
        ("amqp.tls.ca_file", tls.ca_file.is_some()),
        ("amqp.tls.cert_file", tls.cert_file.is_some()),
        ("amqp.tls.key_ref", tls.key_ref.is_some()),
    ];
    for (path, other, lacks) in [
        ("amqp.tls.cert_file", "amqp.tls.key_ref", tls.cert_file.is_some() && tls.key_ref.is_none()),
        ("amqp.tls.key_ref", "amqp.tls.cert_file", tls.key_ref.is_some() && tls.cert_file.is_none()),
    ] {
        if lacks {
            let wrong = Wrong::new(
                format!("`{path}` is set and `{other}` is not: a certificate and its key go together"),
                "set both, or neither where the broker asks for no certificate",
            );
            merge.fault_of(path, wrong);
        }
    }
    let named = merge.is_set("amqp.url") || merge.is_set("amqp.urls");
    let is_plain = config.amqp.addresses().iter().any(|url| url.expose().starts_with("amqp://"));
    if let Some((path, _)) = set.iter().find(|(_, is_set)| *is_set)
        && named
        && is_plain
    {
        let wrong = Wrong::new(
            format!(
                "`{path}` is set, and the broker's URL begins with `amqp://`: nothing would be encrypted"
            ),
            "write `amqps://` and the broker's TLS port, or take `amqp.tls` out",
        );
        merge.fault_of(path, wrong);
    }
}

/// What an environment does not let pass.
fn environment(config: &Config, merge: &mut Merge) {
    if config.environment == Environment::Prod && config.identity.mode == IdentityMode::Open {
        let wrong = Wrong::new(
            "`environment` is `prod` and `identity.mode` is `open`: whoever can publish could command, unproven",
            "this release proves no sender, so run it as `stage` or `dev`, on a broker that only trusted users reach",
        );
        merge.fault_of("environment", wrong);
    }
    if config.environment != Environment::Dev && config.identity.trust_origin {
        let wrong = Wrong::new(
            "`identity.trust_origin` is for `environment: dev`: elsewhere one connection could be two people",
            "take it out, and have senders set the AMQP user-id",
        );
        merge.fault_of("identity.trust_origin", wrong);
    }
    if config.environment == Environment::Prod && config.safety.gates_required.is_empty() {
        let wrong = Wrong::new(
            "`environment` is `prod` and `safety.gates_required` is empty: nothing would be asked before a live start",
            "name the readiness gates that starts and changes consult",
        );
        merge.fault_of("environment", wrong);
    }
}

/// Workers of our own are reached over the local channel, and its settings count only where it is
/// there.
fn bootstrap(config: &Config, merge: &mut Merge) {
    let platform = &config.runtime.platform;
    let has_channel = platform.execution_ipc.transport == Transport::TcpLocal;
    if platform.bootstrap.mode == BootstrapMode::ProcessSupervisor && !has_channel {
        let state = if merge.is_set(TRANSPORT) { "is not `tcp_local`" } else { "is not set" };
        let wrong = Wrong::new(
            format!("`runtime.platform.bootstrap.mode` is `process_supervisor`, and `{TRANSPORT}` {state}"),
            format!("set `{TRANSPORT}` to `tcp_local`, or the mode to `inline`"),
        );
        merge.fault_of("runtime.platform.bootstrap.mode", wrong.with_code(Some("BOOT-CFG-05")));
    }
    let auth = &platform.execution_ipc.auth;
    if !has_channel && let Some(path) = idle(config, merge) {
        merge.warn(format!("`{path}` counts only where `{TRANSPORT}` is `tcp_local`"));
    } else if auth.secret_mode == SecretMode::Generated && auth.secret_ref.is_some() {
        merge.warn(format!(
            "`{SECRET_REF}` is read only where `secret_mode` is `static`; this one is `generated`"
        ));
    }
}

/// The first setting of the channel that was set to something else than its default.
fn idle(config: &Config, merge: &Merge) -> Option<&'static str> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let settings = serde_json::to_value(config).unwrap_or_default();
    let section = TRANSPORT.strip_suffix("transport")?;
    let of_channel = FIELDS.iter().map(|field| field.path).filter(|path| path.starts_with(section));
    let differs = |path: &&str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        merge.is_set(path) && settings.pointer(&pointer) != defaults.pointer(&pointer)
    };
    of_channel.filter(|path| *path != TRANSPORT).find(differs)
}
