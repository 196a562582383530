//! Command lines as text, and replies as text, for tests that read like a session.

use redkit_core::{Backend, CallError, Command, Value};

/// A command from words that are separated by blanks; text between single quotes is one word.
pub(crate) fn command(line: &str) -> Command {
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 == 1 {
            true => words.push(part.to_owned()),
            false => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    Command::new(&words[0]).args(&words[1..])
}

/// Runs a command and writes its reply down.
pub(crate) async fn run(backend: &dyn Backend, line: &str) -> String {
    write(backend.call(&command(line)).await)
}

pub(crate) fn write(reply: Result<Value, CallError>) -> String {
    match reply {
        Ok(value) => show(&value),
        Err(CallError::Replied(error)) => format!("-{error}"),
        Err(other) => format!("!{other}"),
    }
}

/// Runs lines of `command => reply`.
pub(crate) async fn session(backend: &dyn Backend, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once(" => ").unwrap();
        let reply = run(backend, command).await;
        assert_eq!(reply.trim_end(), expected, "{command}");
    }
}

fn show(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(show).collect::<Vec<_>>().join(" ");
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Ok => "OK".to_owned(),
        Value::Status(status) => format!("+{status}"),
        Value::Int(number) => format!(":{number}"),
        Value::Double(number) => format!(",{number}"),
        Value::Bool(truth) => format!("#{truth}"),
        Value::Bulk(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Value::Array(items) => format!("[{}]", all(items)),
        Value::Set(items) => format!("~[{}]", all(items)),
        Value::Map(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(k, v)| format!("{}: {}", show(k), show(v)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Error(error) => format!("-{error}"),
        other => format!("{other:?}"),
    }
}
