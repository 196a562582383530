//! Which commands a shared backend refuses. The engine could carry some of them out, but a program
//! that runs on it must run the same on a server, where many callers share the connection.

use redkit_core::{CallError, Command, Fault, FaultKind};

const SUBSCRIBES: &[&str] = &[
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "MONITOR",
];
const TRANSACTION: &[&str] = &["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"];
const CONNECTION: &[&str] = &["SELECT", "RESET"];
const CLIENT: &[&str] = &["SETNAME", "NO-EVICT"];

/// Refuses a command that does not go alone over a shared connection.
pub(crate) fn check_one(command: &Command) -> Result<(), CallError> {
    check_any(command)?;
    let name = command.name();
    let remedy = if is_one_of(name, TRANSACTION) {
        "send MULTI to EXEC in one `pipeline`, or use a `dedicated` connection: commands of other \
         callers would get in between"
    } else if is_one_of(name, CONNECTION) || changes_client(command) {
        "use a `dedicated` connection: it would change the connection for every other caller"
    } else {
        return Ok(());
    };
    Err(refused(
        FaultKind::Invalid,
        format!("{name} cannot go over a shared connection; {remedy}"),
    ))
}

/// Refuses a pipeline with such a command outside of a transaction, or with an open transaction.
pub(crate) fn check_pipeline(commands: &[Command]) -> Result<(), CallError> {
    let mut is_open = false;
    for command in commands {
        let name = command.name();
        if is_one_of(name, &["MULTI"]) {
            is_open = true;
        } else if is_open && is_one_of(name, &["EXEC", "DISCARD"]) {
            is_open = false;
        } else {
            check_one(command)?;
        }
    }
    match is_open {
        true => Err(refused(
            FaultKind::Invalid,
            "a pipeline holds MULTI without EXEC; end it".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Refuses what no connection carries: subscriptions have a method of their own.
pub(crate) fn check_any(command: &Command) -> Result<(), CallError> {
    match is_one_of(command.name(), SUBSCRIBES) {
        true => Err(refused(
            FaultKind::Unsupported,
            format!(
                "{} is not carried by the embedded engine; use `subscribe` for subscriptions",
                command.name()
            ),
        )),
        false => Ok(()),
    }
}

fn changes_client(command: &Command) -> bool {
    let subcommand = command.get(0).and_then(|s| std::str::from_utf8(s).ok());
    is_one_of(command.name(), &["CLIENT"]) && subcommand.is_some_and(|s| is_one_of(s, CLIENT))
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|n| name.eq_ignore_ascii_case(n))
}

fn refused(kind: FaultKind, message: String) -> CallError {
    Fault::new(kind, message).not_sent()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(names: &[&str]) -> Vec<Command> {
        names.iter().map(|name| Command::new(name)).collect()
    }

    #[test]
    fn transactions_go_in_one_pipeline_and_nothing_else_does() {
        assert!(check_one(&Command::new("GET").key("k")).is_ok());
        assert!(check_one(&Command::new("CLIENT").arg("ID")).is_ok());
        for name in ["multi", "EXEC", "WATCH", "SELECT", "SUBSCRIBE"] {
            assert!(check_one(&Command::new(name)).is_err(), "{name}");
        }
        assert!(check_one(&Command::new("CLIENT").arg("setname").arg("a")).is_err());
        assert!(check_pipeline(&commands(&["MULTI", "GET", "EXEC", "GET"])).is_ok());
        for wrong in [
            &["MULTI", "GET"][..],
            &["EXEC"],
            &["WATCH"],
            &["MULTI", "WATCH", "EXEC"],
            &["PSUBSCRIBE"],
        ] {
            assert!(check_pipeline(&commands(wrong)).is_err(), "{wrong:?}");
        }
    }
}
