//! Rights: every command of the patterns is queued in a transaction that is then discarded, and so is one on each kind
//! of key and channel. The server checks the user's rights as it queues, and carries nothing out.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::{CallError, Client, Command, ServerNode, Value, slot};
use tokio::time::{Instant, timeout};

use super::finding::Finding;
use super::{Need, stems};

/// In place of a key of the pattern.
const KEY: &str = "KEY";
/// In place of a channel of the pattern.
const CHANNEL: &str = "CHANNEL";

/// The commands of each pattern, in its scripts and by themselves, as their scripts name them.
const COMMANDS: &[(Need, &[&str])] = &[
    (
        Need::Cache,
        &[
            "DEL", "EVAL", "EVALSHA", "EXISTS", "GET", "GETRANGE", "HDEL", "HGET", "HGETALL",
            "HINCRBY", "HKEYS", "HMGET", "HSET", "HSETNX", "PEXPIRE", "PTTL", "PUBLISH", "SET",
            "SETRANGE", "TIME", "TYPE", "UNLINK",
        ],
    ),
    (
        Need::WriteBehind,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HEXISTS",
            "HGET",
            "HGETALL",
            "HINCRBY",
            "HKEYS",
            "HLEN",
            "HMGET",
            "HSET",
            "HSETNX",
            "PEXPIRE",
            "TIME",
            "UNLINK",
            "ZADD",
            "ZCARD",
            "ZCOUNT",
            "ZRANGE",
            "ZRANGEBYLEX",
            "ZRANGEBYSCORE",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
    (
        Need::Collections,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HGET",
            "HINCRBY",
            "HSET",
            "INCRBY",
            "LMPOP",
            "LPUSH",
            "LRANGE",
            "LTRIM",
            "MGET",
            "PEXPIRE",
            "SADD",
            "SET",
            "SINTERCARD",
            "SMEMBERS",
            "UNLINK",
            "ZADD",
            "ZCARD",
            "ZMPOP",
            "ZRANGE",
            "ZSCORE",
        ],
    ),
    (
        Need::Lock,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HEXISTS",
            "HGET",
            "HINCRBY",
            "HMGET",
            "HSET",
            "PERSIST",
            "PEXPIRE",
            "PEXPIREAT",
            "PTTL",
            "PUBLISH",
            "SADD",
            "SET",
            "SETRANGE",
            "TIME",
            "WAIT",
            "ZADD",
            "ZCARD",
            "ZCOUNT",
            "ZRANGE",
            "ZRANGEBYSCORE",
            "ZRANK",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
    (
        Need::Ratelimit,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "GET",
            "HINCRBY",
            "HMGET",
            "HSET",
            "LINDEX",
            "LLEN",
            "LPUSH",
            "LREM",
            "LTRIM",
            "PEXPIRE",
            "PTTL",
            "PUBLISH",
            "SET",
            "TIME",
            "UNLINK",
            "ZADD",
            "ZCARD",
            "ZCOUNT",
            "ZRANGE",
            "ZRANGEBYSCORE",
            "ZRANK",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
    (
        Need::Session,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HEXISTS",
            "HGET",
            "HGETALL",
            "HINCRBY",
            "HKEYS",
            "HMGET",
            "HSET",
            "PEXPIREAT",
            "PEXPIRETIME",
            "PTTL",
            "PUBLISH",
            "SET",
            "TIME",
            "ZADD",
            "ZRANGEBYLEX",
            "ZRANGEBYSCORE",
            "ZREM",
            "ZSCORE",
        ],
    ),
    (
        Need::Channel,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HGET",
            "HGETALL",
            "HMGET",
            "HSET",
            "PEXPIRE",
            "PTTL",
            "PUBLISH",
            "SET",
            "TIME",
            "UNLINK",
            "XADD",
            "XDEL",
            "XINFO",
            "XLEN",
            "XRANGE",
            "XREVRANGE",
            "XTRIM",
        ],
    ),
    (
        Need::Topic,
        &[
            "DEL",
            "EVAL",
            "EVALSHA",
            "EXISTS",
            "GET",
            "HDEL",
            "HEXISTS",
            "HGET",
            "HGETALL",
            "HINCRBY",
            "HMGET",
            "HSET",
            "HSETNX",
            "PEXPIRE",
            "PTTL",
            "PUBLISH",
            "SET",
            "TIME",
            "UNLINK",
            "XACK",
            "XADD",
            "XCLAIM",
            "XDEL",
            "XGROUP",
            "XINFO",
            "XLEN",
            "XPENDING",
            "XRANGE",
            "XREADGROUP",
            "XREVRANGE",
            "XTRIM",
            "ZADD",
            "ZCARD",
            "ZCOUNT",
            "ZRANGE",
            "ZRANGEBYSCORE",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
];

/// A command's arguments, right in number and kind.
fn arguments(command: &str) -> &'static [&'static str] {
    match command {
        "PUBLISH" => &[CHANNEL, "x"],
        "TIME" => &[],
        "WAIT" => &["0", "1"],
        "EVAL" => &["return 1", "1", KEY],
        "EVALSHA" => &["0000000000000000000000000000000000000000", "1", KEY],
        "SINTERCARD" => &["1", KEY],
        "LMPOP" => &["1", KEY, "LEFT"],
        "ZMPOP" => &["1", KEY, "MIN"],
        "XINFO" => &["STREAM", KEY],
        "XGROUP" => &["DESTROY", KEY, "g"],
        "XREADGROUP" => &["GROUP", "g", "c", "STREAMS", KEY, ">"],
        "XTRIM" => &[KEY, "MAXLEN", "0"],
        "XCLAIM" => &[KEY, "g", "c", "0", "0-1"],
        "XADD" => &[KEY, "*", "f", "v"],
        "XACK" => &[KEY, "g", "0-1"],
        "XDEL" => &[KEY, "0-1"],
        "XPENDING" => &[KEY, "g"],
        "XRANGE" | "XREVRANGE" => &[KEY, "-", "+"],
        "GETRANGE" | "LRANGE" | "LTRIM" | "ZRANGE" | "ZCOUNT" | "ZRANGEBYSCORE"
        | "ZREMRANGEBYSCORE" | "LREM" => &[KEY, "0", "1"],
        "ZRANGEBYLEX" => &[KEY, "-", "+"],
        "SETRANGE" | "HINCRBY" | "HSET" | "HSETNX" | "ZADD" => &[KEY, "0", "1"],
        "SET" | "INCRBY" | "PEXPIRE" | "PEXPIREAT" | "HGET" | "HDEL" | "HEXISTS" | "HMGET"
        | "LINDEX" | "LPUSH" | "SADD" | "ZREM" | "ZSCORE" | "ZRANK" => &[KEY, "1"],
        _ => &[KEY],
    }
}

/// What is missing on a server.
#[derive(Debug, Default)]
struct Missing {
    /// As in `ACL SETUSER`: `+xadd`, `~shop:*`.
    rights: BTreeSet<String>,
    /// Commands that the server does not have.
    unknown: BTreeSet<String>,
    patterns: BTreeSet<&'static str>,
}

pub(super) async fn look(client: &Client, needs: &[Need], patience: Duration) -> Vec<Finding> {
    let servers = client.servers();
    let each = servers.iter().map(async |server| {
        let looked = timeout(patience * 2, of_server(client, server, needs, patience)).await;
        let finding = looked.unwrap_or_else(|_| {
            Finding::warning(
                "rights",
                "they could not be tried in time",
                "look at the server's load",
            )
        });
        finding.on(&server.name)
    });
    join_all(each).await
}

async fn of_server(
    client: &Client,
    server: &ServerNode,
    needs: &[Need],
    patience: Duration,
) -> Finding {
    match tried(client, server, needs, patience).await {
        Ok(missing) => missing.finding(),
        Err(error) => {
            let refused = matches!(error.call_error(), Some(CallError::Replied(reply)) if reply.code() == "NOPERM");
            match refused {
                true => Finding::error(
                    "rights",
                    "the user may not use transactions, by which rights are tried without carrying anything out",
                    "grant the user `+multi +exec +discard`",
                )
                .of(needs.iter().map(|need| need.word())),
                false => Finding::warning("rights", error.to_string(), crate::failure::remedy_of(&error)),
            }
        }
    }
}

async fn tried(
    client: &Client,
    server: &ServerNode,
    needs: &[Need],
    patience: Duration,
) -> Result<Missing, redkit_core::Error> {
    let mut missing = Missing::default();
    let tag = tag_on(server);
    // A connection of its own: should something go wrong in between, the transaction ends with it.
    let connection = client.dedicated().await?;
    let deadline = Instant::now() + patience;
    // It names a key so that a cluster's client knows the node.
    let first = Command::new("EXISTS").key(connection.key(format!("monitor:doctor:{{{tag}}}")));
    drop(connection.call::<Value>(first.deadline(deadline)).await);
    connection
        .call::<Value>(Command::new("MULTI").deadline(deadline))
        .await?;
    for (need, commands) in COMMANDS.iter().filter(|(need, _)| needs.contains(need)) {
        let samples = samples(*need, commands);
        let batch = samples.iter().map(|(command, stem)| {
            let sample = sample(client, stem, command, &tag);
            sample.deadline(deadline)
        });
        let replies = connection.pipeline(batch.collect()).await?;
        for ((command, stem), reply) in samples.into_iter().zip(replies) {
            missing.note(client, *need, stem, command, reply);
        }
    }
    drop(
        connection
            .call::<Value>(Command::new("DISCARD").deadline(deadline))
            .await,
    );
    connection.shutdown().await;
    Ok(missing)
}

/// All commands on the pattern's first keys; on its other keys and channels, to which other rights may be needed, those
/// that read, write and publish.
fn samples(need: Need, commands: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let (keys, channels) = (stems::of_keys(need), stems::of_channels(need));
    let first = keys.first().copied().unwrap_or_default();
    let on_first = commands.iter().map(|command| (*command, first));
    let others = keys.iter().skip(1);
    let others = others.flat_map(|stem| [("EXISTS", *stem), ("PEXPIRE", *stem)]);
    let heard = channels.iter().filter(|stem| **stem != first);
    let heard = heard.map(|stem| ("PUBLISH", *stem));
    on_first.chain(others).chain(heard).collect()
}

fn sample(client: &Client, stem: &str, command: &str, tag: &str) -> Command {
    let sampled = Command::new(command);
    arguments(command)
        .iter()
        .fold(sampled, |sampled, argument| match *argument {
            KEY => sampled.key(client.key(format!("{stem}:redkit-doctor:{{{tag}}}"))),
            CHANNEL => sampled.arg(client.key(format!("{stem}:redkit-doctor:wake"))),
            argument => sampled.arg(argument),
        })
}

/// A hash tag in a slot of this server.
fn tag_on(server: &ServerNode) -> String {
    let tags = (0..1_000_000_u32).map(|number| format!("doctor-{number}"));
    let mut on_it = tags.filter(|tag| server.serves(slot(tag.as_bytes())));
    on_it.next().unwrap_or_else(|| "doctor".to_owned())
}

impl Missing {
    fn note(
        &mut self,
        client: &Client,
        need: Need,
        stem: &str,
        command: &str,
        reply: Result<Value, CallError>,
    ) {
        let Err(CallError::Replied(error)) = reply else {
            return;
        };
        let message = error.message().to_ascii_lowercase();
        let all = client.key(format!("{stem}:*"));
        let all = String::from_utf8_lossy(all.as_bytes());
        let right = match error.code() {
            "NOPERM" if message.contains("to run the") => {
                format!("+{}", command.to_ascii_lowercase())
            }
            "NOPERM" if message.contains("channel") => format!("&{all}"),
            // Which keys a program gives its collections is not known here.
            "NOPERM" if need == Need::Collections => return,
            "NOPERM" => format!("~{all}"),
            _ if message.contains("unknown command") => {
                self.unknown.insert(command.to_owned());
                self.patterns.insert(need.word());
                return;
            }
            // A replica, or a full server: another check says so.
            _ => return,
        };
        self.rights.insert(right);
        self.patterns.insert(need.word());
    }

    fn finding(self) -> Finding {
        let list = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>().join(" ");
        if !self.rights.is_empty() {
            let rights = list(&self.rights);
            let found = format!("the user lacks {rights}");
            let remedy = format!("grant them: `ACL SETUSER <user> {rights}`");
            return Finding::error("rights", found, remedy).of(self.patterns);
        }
        if !self.unknown.is_empty() {
            let found = format!("the server does not have {}", list(&self.unknown));
            let remedy = "run a later version, or see `rename-command` in its configuration";
            return Finding::error("rights", found, remedy).of(self.patterns);
        }
        Finding::ok("rights", "every command, key and channel of the patterns")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// The commands in the scripts below a folder.
    fn in_scripts(folder: &Path, found: &mut BTreeMap<String, BTreeSet<String>>, crate_name: &str) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                in_scripts(&path, found, crate_name);
            } else if path.extension().is_some_and(|ending| ending == "lua") {
                let text = std::fs::read_to_string(&path).unwrap();
                let write_behind = path.to_string_lossy().contains("write_behind");
                let of = if write_behind {
                    "write-behind"
                } else {
                    crate_name
                };
                for call in ["redis.call('", "redis.pcall('"] {
                    for rest in text.split(call).skip(1) {
                        let command = rest.split('\'').next().unwrap().to_ascii_uppercase();
                        found.entry(of.to_owned()).or_default().insert(command);
                    }
                }
            }
        }
    }

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut found = BTreeMap::new();
        for name in [
            "cache",
            "collections",
            "lock",
            "ratelimit",
            "session",
            "pubsub",
        ] {
            in_scripts(&crates.join(name).join("src"), &mut found, name);
        }
        assert!(found.len() >= 6, "{found:?}");
        for (name, commands) in found {
            let needs: &[Need] = match name.as_str() {
                "cache" => &[Need::Cache],
                "write-behind" => &[Need::WriteBehind],
                "collections" => &[Need::Collections],
                "lock" => &[Need::Lock],
                "ratelimit" => &[Need::Ratelimit],
                "session" => &[Need::Session],
                _ => &[Need::Channel, Need::Topic],
            };
            let tried: BTreeSet<&str> = COMMANDS
                .iter()
                .filter(|(need, _)| needs.contains(need))
                .flat_map(|(_, commands)| commands.iter().copied())
                .collect();
            // Only newer servers have them, and what needs them says so.
            let is_optional = |command: &String| matches!(command.as_str(), "HPEXPIRE" | "HPTTL");
            let missing: Vec<_> = commands
                .iter()
                .filter(|command| !tried.contains(command.as_str()) && !is_optional(command))
                .collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
    }
}
