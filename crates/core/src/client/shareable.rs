//! Which commands must not travel on a connection that many callers share: they would change it
//! for everybody, hold it up, or break the order of replies.

use crate::command::Command;
use crate::error::{CallError, Fault, FaultKind};

/// Refuses a command that belongs on a connection of its own. [`Client`](crate::Client) asks before
/// it sends anything on a shared connection; a backend that can be used without one may ask too.
///
/// # Errors
/// [`CallError::NotSent`] with the remedy.
pub fn check_shareable(command: &Command) -> Result<(), CallError> {
    let remedy = match kind(command.name()) {
        Kind::Shareable => return Ok(()),
        Kind::MayBlock if !blocks(command) => return Ok(()),
        Kind::BySubcommand if !subcommand_changes_connection(command) => return Ok(()),
        Kind::Subscribes => "use `subscribe`",
        Kind::Blocks | Kind::MayBlock => {
            "use it on a `dedicated` connection: it would hold up every other caller"
        }
        Kind::Transaction => {
            "send MULTI to EXEC in one `pipeline`, or use a `dedicated` connection: commands of \
             other callers would get in between"
        }
        Kind::Connection | Kind::BySubcommand => {
            "set it in the configuration, or use a `dedicated` connection: it would change the \
             connection for every other caller"
        }
    };
    let message = format!(
        "{} cannot go over a shared connection; {remedy}",
        command.name()
    );
    Err(Fault::new(FaultKind::Invalid, message).not_sent())
}

/// The same for a pipeline, in which the commands of a transaction arrive back to back.
///
/// # Errors
/// [`CallError::NotSent`] for the first command that does not belong there, and for a transaction
/// without an end. `DISCARD` is none: a server that refuses it leaves the transaction open.
pub fn check_pipeline(commands: &[Command]) -> Result<(), CallError> {
    let mut open = false;
    for command in commands {
        // With an argument too many the server refuses it, and what follows is no transaction.
        let is = |name: &str| command.arg_count() == 0 && command.name().eq_ignore_ascii_case(name);
        match kind(command.name()) {
            Kind::Transaction if is("MULTI") => open = true,
            Kind::Transaction if open && is("EXEC") => open = false,
            _ => check_shareable(command)?,
        }
    }
    if open {
        return Err(Fault::new(
            FaultKind::Invalid,
            "a pipeline holds MULTI without EXEC; end it, or every later caller's commands would \
             be queued",
        )
        .not_sent());
    }
    Ok(())
}

/// Whether the command begins, ends or belongs to a transaction.
pub(super) fn is_of_transaction(command: &Command) -> bool {
    kind(command.name()) == Kind::Transaction
}

#[derive(PartialEq, Eq)]
enum Kind {
    Shareable,
    Subscribes,
    Blocks,
    /// Depends on an option.
    MayBlock,
    Transaction,
    Connection,
    /// Depends on the first argument.
    BySubcommand,
}

fn kind(name: &str) -> Kind {
    // Most names end here: one look at the length and the first letter.
    let Some(first) = name.bytes().next() else {
        return Kind::Shareable;
    };
    if !b"ABCEHMPQRSUWXZDabcehmpqrsuwxzd".contains(&first) || name.len() < 4 {
        return Kind::Shareable;
    }
    let mut upper = [0_u8; 16];
    let Some(upper) = upper.get_mut(..name.len()) else {
        return Kind::Shareable;
    };
    upper.copy_from_slice(name.as_bytes());
    upper.make_ascii_uppercase();
    match &*upper {
        b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE"
        | b"SUNSUBSCRIBE" => Kind::Subscribes,
        b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BLMPOP" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX"
        | b"BZMPOP" | b"WAIT" | b"WAITAOF" => Kind::Blocks,
        b"XREAD" | b"XREADGROUP" => Kind::MayBlock,
        b"MULTI" | b"EXEC" | b"DISCARD" | b"WATCH" | b"UNWATCH" => Kind::Transaction,
        b"MONITOR" | b"QUIT" | b"RESET" | b"HELLO" | b"SELECT" | b"AUTH" | b"ASKING"
        | b"READONLY" | b"READWRITE" | b"SYNC" | b"PSYNC" | b"REPLCONF" => Kind::Connection,
        b"CLIENT" | b"SCRIPT" => Kind::BySubcommand,
        _ => Kind::Shareable,
    }
}

/// Whether the option `BLOCK` stands where options do.
fn blocks(command: &Command) -> bool {
    let mut args = command.iter();
    while let Some(option) = args.next() {
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        if is(b"BLOCK") {
            return true;
        }
        if is(b"STREAMS") {
            return false;
        }
        if is(b"GROUP") {
            // The group's and the consumer's names, which may be any words.
            args.nth(1);
        }
    }
    false
}

fn subcommand_changes_connection(command: &Command) -> bool {
    let is = |word: &str| {
        command
            .get(0)
            .is_some_and(|sub| sub.eq_ignore_ascii_case(word.as_bytes()))
    };
    if command.name().eq_ignore_ascii_case("SCRIPT") {
        return is("DEBUG");
    }
    [
        "REPLY",
        "TRACKING",
        "CACHING",
        "SETNAME",
        "SETINFO",
        "NO-EVICT",
        "NO-TOUCH",
        "CAPA",
        "IMPORT-SOURCE",
    ]
    .into_iter()
    .any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(command: &Command) -> String {
        check_shareable(command).unwrap_err().to_string()
    }

    #[test]
    fn commands_that_would_disturb_others_are_refused_with_a_remedy() {
        assert!(refused(&Command::new("subscribe").arg("c")).contains("`subscribe`"));
        assert!(refused(&Command::new("BLPOP").key("k").arg(0)).contains("dedicated"));
        let read = |block: bool| {
            let command = Command::new("XREAD").arg("COUNT").arg(1);
            let command = if block {
                command.arg("block").arg(0)
            } else {
                command
            };
            command.arg("STREAMS").key("block").arg("$")
        };
        assert!(refused(&read(true)).contains("dedicated"));
        assert!(check_shareable(&read(false)).is_ok());
        for name in ["streams", "block", "group"] {
            for (group, consumer) in [(name, "c"), ("g", name), (name, name)] {
                let read = Command::new("XREADGROUP")
                    .arg("GROUP")
                    .arg(group)
                    .arg(consumer);
                let waits = read
                    .clone()
                    .arg("BLOCK")
                    .arg(0)
                    .arg("STREAMS")
                    .key("k")
                    .arg(">");
                assert!(refused(&waits).contains("dedicated"), "{group} {consumer}");
                let looks = read.arg("STREAMS").key("k").arg(">");
                assert!(check_shareable(&looks).is_ok(), "{group} {consumer}");
            }
        }
        assert!(refused(&Command::new("Multi")).contains("pipeline"));
        assert!(refused(&Command::new("CLIENT").arg("reply").arg("off")).contains("dedicated"));
        for line in [
            &["REPLCONF", "ACK", "0"][..],
            &["replconf", "GETACK", "*"],
            &["Script", "debug", "YES"],
            &["CLIENT", "import-source", "ON"],
        ] {
            let (name, args) = line.split_first().unwrap();
            assert!(refused(&Command::new(name).args(args)).contains("dedicated"));
        }
        let load = Command::new("SCRIPT").arg("LOAD").arg("return 1");
        assert!(check_shareable(&load).is_ok());
        for name in ["GET", "SET", "EVALSHA", "HGETALL", "PUBLISH", "UNLINK", ""] {
            assert!(check_shareable(&Command::new(name)).is_ok(), "{name}");
        }
        assert!(check_shareable(&Command::new("CLIENT").arg("ID")).is_ok());
    }

    #[test]
    fn a_transaction_is_whole_or_not_sent() {
        let commands = |names: &[&str]| names.iter().map(|n| Command::new(n)).collect::<Vec<_>>();
        assert!(check_pipeline(&commands(&["MULTI", "SET", "EXEC", "GET"])).is_ok());
        let one_too_many = Command::new("EXEC").arg("x");
        let more = [&commands(&["MULTI", "SET"])[..], &[one_too_many]].concat();
        assert!(check_pipeline(&more).is_err());
        for wrong in [
            &["MULTI", "SET"][..],
            &["MULTI", "SET", "DISCARD"],
            &["MULTI", "SET", "UNWATCH"],
            &["EXEC"],
            &["WATCH", "MULTI", "EXEC"],
            &["MULTI", "BLPOP", "EXEC"],
        ] {
            assert!(check_pipeline(&commands(wrong)).is_err(), "{wrong:?}");
        }
    }
}
