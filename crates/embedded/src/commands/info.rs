//! `INFO`: figures for monitoring.

use redkit_core::Value;

use super::{Spec, all, read};
use crate::args::is;
use crate::error::Reply;
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[read("INFO", -1, info)];

/// Writes the lines of a section.
type Section = fn(&mut State) -> String;

/// The sections in the order of the server's. The last is given only when it is asked for.
const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Stats", stats),
    ("Replication", replication),
    ("Keyspace", keyspace),
    ("Commandstats", command_stats),
];

fn info(state: &mut State, args: &[&[u8]]) -> Reply {
    let any_of = |names: &[&str]| {
        args.iter()
            .any(|arg| names.iter().any(|name| is(arg, name)))
    };
    let default = args.is_empty() || any_of(&["default"]);
    let everything = any_of(&["all", "everything"]);
    let mut written = Vec::new();
    for (name, section) in SECTIONS {
        let by_default = default && *name != "Commandstats";
        if everything || by_default || any_of(&[name]) {
            written.push(format!("# {name}\r\n{}", section(state)));
        }
    }
    Ok(Value::Verbatim {
        format: "txt".into(),
        text: written.join("\r\n").into(),
    })
}

fn server(state: &mut State) -> String {
    format!(
        "redis_version:7.0.15\r\nredis_mode:embedded\r\nprocess_id:{}\r\nserver_time_usec:{}\r\nuptime_in_seconds:{}\r\nuptime_in_days:{}\r\n",
        std::process::id(),
        state.micros(),
        state.uptime(),
        state.uptime() / 86_400,
    )
}

/// The shared connection counts as one.
fn clients(state: &mut State) -> String {
    format!(
        "connected_clients:{}\r\nmaxclients:0\r\nblocked_clients:{}\r\n",
        state.connections.len() + 1,
        state.waiters.len(),
    )
}

fn memory(state: &mut State) -> String {
    format!(
        "used_memory:{}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
        state.db.weight(),
    )
}

fn stats(state: &mut State) -> String {
    format!(
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\nevicted_keys:0\r\nkeyspace_hits:{}\r\nkeyspace_misses:{}\r\npubsub_channels:{}\r\npubsub_patterns:{}\r\n",
        state.connected + 1,
        state.command_stats.commands(),
        state.db.lookups.expired,
        state.db.lookups.hits,
        state.db.lookups.misses,
        state.pubsub.channels().count(),
        state.pubsub.patterns(),
    )
}

fn replication(_: &mut State) -> String {
    "role:master\r\nconnected_slaves:0\r\n".to_owned()
}

fn keyspace(state: &mut State) -> String {
    let (keys, expires) = (state.db.len(), state.db.expiring());
    match keys {
        0 => String::new(),
        _ => format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n"),
    }
}

fn command_stats(state: &mut State) -> String {
    let lines = all().enumerate().filter_map(|(number, spec)| {
        let counts = state.command_stats.of(number)?;
        let name = spec.name.to_ascii_lowercase();
        Some(format!("cmdstat_{name}:{counts}\r\n"))
    });
    lines.collect()
}
