//! What is sent for some commands so that no reply of theirs can be mistaken for a pushed message,
//! and what becomes of the replies.
//!
//! On a shared connection a reply that could be mistaken is nested: `MULTI`, the command, `EXEC`.
//! The reply is then an array inside an array, which fred does not look at. A transaction of the
//! caller's gets a `PING` as its first command, so that the reply of `EXEC` begins with a status.
//!
//! A connection of one's own may be watching keys, and `EXEC` would end that. There an `ECHO` of a
//! random text follows: when fred loses the reply, the text comes in its place, and the caller gets
//! an error, never another reply.

use ::fred::interfaces::Resp3Frame;

use super::convert::to_reply;
use super::reply_shape::may_be_mistaken;
use crate::command::Command;
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

/// One thing to send.
#[derive(Debug)]
pub(super) enum Step<'c> {
    Caller(&'c Command),
    Word(&'static str),
    Echo(String),
}

/// How one caller's command gets its reply from those of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    /// One step, one reply.
    Bare,
    /// `MULTI`, the command, `EXEC`.
    Nested,
    /// The caller's `MULTI`, and a `PING`.
    Opened,
    /// The caller's `EXEC` of a transaction that begins with that `PING`.
    Closed,
    /// The command, and an `ECHO`.
    Guarded,
}

/// What to send for some commands, back to back.
#[derive(Debug, Default)]
pub(super) struct Sequence<'c> {
    pub(super) steps: Vec<Step<'c>>,
    takes: Vec<Take>,
}

/// Why a sequence gave no replies.
#[derive(Debug)]
pub(super) enum Broken {
    /// The replies no longer belong to who gets them: the connection must end.
    OutOfStep(CallError),
    /// The connection broke.
    Failed(CallError),
}

impl<'c> Sequence<'c> {
    /// For a connection that others use too.
    pub(super) fn shared(commands: &'c [Command]) -> Self {
        let mut sequence = Self::default();
        let mut open = false;
        for command in commands {
            let is = |name: &str| command.name().eq_ignore_ascii_case(name);
            if open {
                open = !is("EXEC") && !is("DISCARD");
                let take = if is("EXEC") { Take::Closed } else { Take::Bare };
                sequence.push([Step::Caller(command)], take);
            } else if is("MULTI") {
                open = true;
                sequence.push([Step::Caller(command), Step::Word("PING")], Take::Opened);
            } else if may_be_mistaken(command) {
                let steps = [
                    Step::Word("MULTI"),
                    Step::Caller(command),
                    Step::Word("EXEC"),
                ];
                sequence.push(steps, Take::Nested);
            } else {
                sequence.push([Step::Caller(command)], Take::Bare);
            }
        }
        sequence
    }

    /// For a connection with one user. `open` is whether a transaction is being queued, before and
    /// after.
    pub(super) fn dedicated(commands: &'c [Command], open: &mut bool) -> Self {
        let mut sequence = Self::default();
        for command in commands {
            let is = |name: &str| command.name().eq_ignore_ascii_case(name);
            if *open && !is("EXEC") && !is("DISCARD") {
                // The reply is a status, and an `ECHO` would be queued.
                sequence.push([Step::Caller(command)], Take::Bare);
                continue;
            }
            *open = is("MULTI");
            if may_be_mistaken(command) {
                let text = format!("redkit-{:032x}", rand::random::<u128>());
                sequence.push([Step::Caller(command), Step::Echo(text)], Take::Guarded);
            } else {
                sequence.push([Step::Caller(command)], Take::Bare);
            }
        }
        sequence
    }

    /// Whether `reply` to the step `at` already shows that a reply was lost.
    pub(super) fn is_out_of_step(&self, at: usize, reply: &Resp3Frame) -> bool {
        let next = at.checked_add(1).and_then(|next| self.steps.get(next));
        matches!(next, Some(Step::Echo(text)) if is_text(reply, text))
    }

    /// The replies to the caller's commands, from those to the steps.
    pub(super) fn replies(
        &self,
        frames: Vec<Result<Resp3Frame, CallError>>,
    ) -> Result<Vec<Result<Value, CallError>>, Broken> {
        let mut frames = frames.into_iter();
        let mut steps = self.steps.iter();
        let mut next = || {
            let step = steps.next();
            let frame = frames.next().ok_or_else(incomplete).flatten();
            (step, frame)
        };
        let mut replies = Vec::with_capacity(self.takes.len());
        for take in &self.takes {
            let reply = match take {
                Take::Bare => next().1.map_err(Broken::Failed).map(to_reply)?,
                Take::Opened => {
                    let opened = next().1.map_err(Broken::Failed).map(to_reply)?;
                    next().1.map_err(Broken::Failed)?;
                    opened
                }
                Take::Closed => next().1.map_err(Broken::Failed).map(without_first)?,
                Take::Nested => {
                    let opened = next().1.map_err(Broken::Failed).map(to_reply)?;
                    let queued = next().1.map_err(Broken::Failed).map(to_reply)?;
                    let executed = next().1.map_err(Broken::Failed).map(to_reply)?;
                    opened.map_err(cannot_nest)?;
                    // An error when it was queued is the command's own; `EXEC` only repeats it.
                    queued.and(executed).and_then(only)
                }
                Take::Guarded => {
                    let frame = next().1.map_err(Broken::Failed)?;
                    let (step, echo) = next();
                    let echo = echo.map_err(Broken::Failed)?;
                    if !matches!(step, Some(Step::Echo(text)) if is_text(&echo, text)) {
                        return Err(out_of_step());
                    }
                    to_reply(frame)
                }
            };
            replies.push(reply);
        }
        Ok(replies)
    }

    fn push<const N: usize>(&mut self, steps: [Step<'c>; N], take: Take) {
        self.steps.extend(steps);
        self.takes.push(take);
    }
}

/// A reply was lost, and those after it have moved up.
pub(super) fn out_of_step() -> Broken {
    let message = "the `fred` crate took the reply for a pushed message and lost it; the \
                   connection is closed. Run the command on the shared client, or use the `redis` \
                   driver";
    Broken::OutOfStep(Fault::new(FaultKind::Protocol, message).maybe())
}

fn cannot_nest(error: CallError) -> Broken {
    let message = format!(
        "the `fred` driver sends this command between MULTI and EXEC, so that its reply cannot be \
         taken for a pushed message, and the server refused MULTI ({error}); grant the user \
         `+multi +exec`, or use the `native` driver"
    );
    Broken::OutOfStep(Fault::new(FaultKind::Protocol, message).maybe())
}

fn incomplete() -> CallError {
    Fault::new(FaultKind::Protocol, "a reply is missing").maybe()
}

fn is_text(frame: &Resp3Frame, text: &str) -> bool {
    matches!(frame, Resp3Frame::BlobString { data, .. } if data == text.as_bytes())
}

/// The one result of a transaction.
fn only(executed: Value) -> Result<Value, CallError> {
    let results = match executed {
        Value::Array(results) => <[Value; 1]>::try_from(results).ok(),
        _ => None,
    };
    match results {
        Some([Value::Error(error)]) => Err(CallError::Replied(error)),
        Some([value]) => Ok(value),
        None => Err(incomplete()),
    }
}

/// The results of a transaction without that of our `PING`.
fn without_first(executed: Resp3Frame) -> Result<Value, CallError> {
    to_reply(executed).map(|value| match value {
        Value::Array(mut results) if !results.is_empty() => {
            results.remove(0);
            Value::Array(results)
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sequence: &Sequence<'_>) -> Vec<String> {
        let name = |step: &Step<'_>| match step {
            Step::Caller(command) => command.name().to_owned(),
            Step::Word(word) => format!("({word})"),
            Step::Echo(_) => "(ECHO)".to_owned(),
        };
        sequence.steps.iter().map(name).collect()
    }

    fn commands(names: &[&str]) -> Vec<Command> {
        names.iter().map(|name| Command::new(name)).collect()
    }

    fn status(text: &'static str) -> Result<Resp3Frame, CallError> {
        Ok(Resp3Frame::SimpleString {
            data: text.into(),
            attributes: None,
        })
    }

    fn blob(text: &str) -> Resp3Frame {
        Resp3Frame::BlobString {
            data: text.to_owned().into(),
            attributes: None,
        }
    }

    fn array(data: Vec<Resp3Frame>) -> Resp3Frame {
        Resp3Frame::Array {
            data,
            attributes: None,
        }
    }

    #[test]
    fn a_shared_connection_nests_what_could_be_mistaken() {
        let all = commands(&["GET", "LRANGE", "MULTI", "LRANGE", "EXEC", "HVALS"]);
        let sequence = Sequence::shared(&all);
        assert_eq!(
            sent(&sequence),
            [
                "GET", "(MULTI)", "LRANGE", "(EXEC)", "MULTI", "(PING)", "LRANGE", "EXEC",
                "(MULTI)", "HVALS", "(EXEC)"
            ]
        );
    }

    #[test]
    fn nested_replies_come_out_as_they_were() {
        let all = commands(&["LRANGE", "MULTI", "INCR", "EXEC"]);
        let sequence = Sequence::shared(&all);
        let frame = array(vec![blob("message"), blob("a"), blob("b")]);
        let frames = vec![
            status("OK"),
            status("QUEUED"),
            Ok(array(vec![frame])),
            status("OK"),
            status("QUEUED"),
            status("QUEUED"),
            Ok(array(vec![
                status("PONG").unwrap(),
                Resp3Frame::Number {
                    data: 5,
                    attributes: None,
                },
            ])),
        ];
        let replies = sequence.replies(frames).unwrap();
        let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
        let texts = ["message", "a", "b"].map(Value::bulk).to_vec();
        assert_eq!(replies[0], Value::Array(texts));
        assert_eq!(replies[3], Value::Array(vec![Value::Int(5)]));
    }

    #[test]
    fn a_refused_command_gives_its_own_error() {
        let all = commands(&["LRANGE"]);
        let sequence = Sequence::shared(&all);
        let refusal = |text: &'static str| {
            Ok(Resp3Frame::SimpleError {
                data: text.into(),
                attributes: None,
            })
        };
        let frames = vec![
            status("OK"),
            refusal("ERR wrong number of arguments"),
            refusal("EXECABORT discarded"),
        ];
        let replies = sequence.replies(frames).unwrap();
        let error = replies[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("wrong number"), "{error}");
    }

    #[test]
    fn a_lost_reply_is_noticed_and_never_replaced_by_another() {
        let all = commands(&["LRANGE"]);
        let mut open = false;
        let sequence = Sequence::dedicated(&all, &mut open);
        let Some(Step::Echo(text)) = sequence.steps.get(1) else {
            panic!("{sequence:?}")
        };
        assert!(sequence.is_out_of_step(0, &blob(text)));
        assert!(!sequence.is_out_of_step(0, &blob("x")));
        let moved_up = vec![Ok(blob(text)), Ok(blob("somebody else's"))];
        assert!(matches!(
            sequence.replies(moved_up),
            Err(Broken::OutOfStep(_))
        ));
        let in_step = vec![Ok(blob("mine")), Ok(blob(text))];
        let replies = sequence.replies(in_step).unwrap();
        assert_eq!(replies[0].as_ref().unwrap(), &Value::bulk("mine"));
    }

    #[test]
    fn a_transaction_of_ones_own_queues_nothing_else() {
        let mut open = false;
        let before = commands(&["WATCH", "LRANGE", "MULTI", "LRANGE"]);
        assert_eq!(
            sent(&Sequence::dedicated(&before, &mut open)),
            ["WATCH", "LRANGE", "(ECHO)", "MULTI", "LRANGE"]
        );
        assert!(open);
        let after = commands(&["HVALS", "EXEC", "HVALS"]);
        assert_eq!(
            sent(&Sequence::dedicated(&after, &mut open)),
            ["HVALS", "EXEC", "(ECHO)", "HVALS", "(ECHO)"]
        );
        assert!(!open);
    }
}
