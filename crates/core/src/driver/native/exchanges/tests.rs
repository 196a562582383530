use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

use proptest::prelude::*;

use super::batch::Batch;
use super::*;

/// Counts how often it is called.
#[derive(Default)]
struct Calls(AtomicU32);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn waker() -> Waker {
    Arc::new(Calls::default()).into()
}

fn request(commands: &[Command]) -> Request<'_> {
    Request {
        commands,
        segments: crate::driver::native::encode::segments(commands),
        confirms: None,
        deadline: None,
    }
}

fn submit(exchanges: &mut Exchanges, command: &Command) -> (u32, Next) {
    let commands = std::slice::from_ref(command);
    exchanges
        .submit(&mut request(commands), &mut None, &waker())
        .unwrap()
}

/// `ECHO` of a text; its bytes name it.
fn echo(text: &str) -> Command {
    Command::new("ECHO").arg(text)
}

fn bytes(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    encode(command, &mut out);
    out
}

/// Gives the socket at most `most` bytes of what waits; says what it got.
fn write(exchanges: &mut Exchanges, most: usize) -> Vec<u8> {
    let Some(batch) = exchanges.hand_over() else {
        return Vec::new();
    };
    let mut whole: Vec<u8> = batch
        .slices()
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect();
    whole.truncate(most);
    exchanges.settle(batch, whole.len());
    whole
}

fn text(reply: Result<Taken, CallError>) -> String {
    match reply {
        Ok(Taken::One(Ok(value))) => value.to().unwrap(),
        Err(CallError::NotSent(fault)) => format!("not sent, {:?}", fault.kind()),
        Err(CallError::Maybe(fault)) => format!("maybe, {:?}", fault.kind()),
        other => panic!("{other:?}"),
    }
}

fn outcome(exchanges: &mut Exchanges, slot: u32) -> String {
    text(exchanges.outcome(slot, &waker()).expect("it has ended"))
}

fn is_empty(exchanges: &Exchanges) -> bool {
    exchanges.held() == (0, 0, 0) && exchanges.owed() == 0 && exchanges.waiting() == 0
}

/// Where a call stands when something happens to it.
const POINTS: [&str; 4] = ["before", "within", "written", "handed over"];

/// Three calls, of which the second stands at a point: `a` is always written, `c` never.
fn at(point: &str) -> (Exchanges, [u32; 3], Option<Batch>) {
    let mut exchanges = Exchanges::new();
    let (a, next) = submit(&mut exchanges, &echo("a"));
    assert_eq!(next, Next::Write);
    assert_eq!(write(&mut exchanges, usize::MAX), bytes(&echo("a")));
    let (b, next) = submit(&mut exchanges, &echo("b"));
    assert_eq!(next, Next::Wake);
    let mut batch = None;
    match point {
        "within" => assert_eq!(write(&mut exchanges, 5).len(), 5),
        "written" => assert_eq!(write(&mut exchanges, usize::MAX), bytes(&echo("b"))),
        "handed over" => batch = exchanges.hand_over(),
        _ => {}
    }
    let (c, _) = submit(&mut exchanges, &echo("c"));
    (exchanges, [a, b, c], batch)
}

#[test]
fn a_full_socket_holds_nothing_up_once_what_waited_for_it_was_taken_back() {
    let mut exchanges = Exchanges::new();
    let (slot, _) = submit(&mut exchanges, &echo("a"));
    exchanges.is_blocked = true;
    exchanges.abandon(slot);
    assert!(exchanges.hand_over().is_none());
    assert!(!exchanges.is_blocked);
}

#[test]
fn a_reply_before_its_command_is_a_violation_and_reaches_no_other_caller() {
    for (count, expected) in [(0, true), (5, true), (usize::MAX, false)] {
        let (mut exchanges, [a, b, c], batch) = at("handed over");
        for text in ["a", "of nobody, or of b"] {
            let reply = Value::bulk(text.to_owned());
            assert!(exchanges.answer(Ok(reply)).is_ok(), "{text}");
        }
        let batch = batch.unwrap();
        let all = batch.slices().iter().map(|piece| piece.len()).sum();
        exchanges.settle(batch, count.min(all));
        assert_eq!(exchanges.is_violated(), expected, "{count} bytes");
        if expected {
            assert!(exchanges.hand_over().is_none());
        }
        exchanges.close(&Fault::new(FaultKind::Protocol, "violated"));
        assert_eq!(outcome(&mut exchanges, a), "a");
        assert_eq!(outcome(&mut exchanges, b), "of nobody, or of b");
        assert_eq!(outcome(&mut exchanges, c), "not sent, Protocol");
    }
}

#[test]
fn a_connection_that_breaks_tells_exactly_what_was_sent() {
    for point in POINTS {
        let (mut exchanges, [a, b, c], batch) = at(point);
        exchanges.close(&Fault::new(FaultKind::Disconnected, "broken"));
        if let Some(batch) = batch {
            exchanges.settle(batch, 0);
        }
        assert_eq!(outcome(&mut exchanges, a), "maybe, Disconnected", "{point}");
        let expected = match point {
            "before" => "not sent, Disconnected",
            _ => "maybe, Disconnected",
        };
        assert_eq!(outcome(&mut exchanges, b), expected, "{point}");
        assert_eq!(
            outcome(&mut exchanges, c),
            "not sent, Disconnected",
            "{point}"
        );
        let refused = exchanges.submit(&mut request(&[echo("d")]), &mut None, &waker());
        assert!(matches!(
            refused,
            Err(Refusal::Closed(CallError::NotSent(_)))
        ));
        assert!(is_empty(&exchanges), "{point}: {exchanges:?}");
    }
}

#[test]
fn who_leaves_takes_an_unsent_command_along_and_leaves_its_reply_to_nobody() {
    for point in POINTS {
        let (mut exchanges, [a, b, c], batch) = at(point);
        exchanges.abandon(b);
        // The writer had it in its hands, and the socket took none of it.
        if let Some(batch) = batch {
            exchanges.settle(batch, 0);
        }
        let rest = write(&mut exchanges, usize::MAX);
        let (b_bytes, c_bytes) = (bytes(&echo("b")), bytes(&echo("c")));
        let (expected, replies) = match point {
            "before" | "handed over" => (c_bytes, vec!["a", "c"]),
            "within" => ([&b_bytes[5..], &c_bytes].concat(), vec!["a", "b", "c"]),
            _ => (c_bytes, vec!["a", "b", "c"]),
        };
        assert_eq!(
            String::from_utf8(rest),
            String::from_utf8(expected),
            "{point}"
        );
        for reply in replies {
            exchanges.answer(Ok(Value::bulk(reply))).unwrap();
        }
        assert_eq!(outcome(&mut exchanges, a), "a", "{point}");
        assert_eq!(outcome(&mut exchanges, c), "c", "{point}");
        assert!(is_empty(&exchanges), "{point}: {exchanges:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_tells_exactly_what_was_sent() {
    for point in POINTS {
        let mut exchanges = Exchanges::new();
        let now = Instant::now();
        let command = [echo("b")];
        let mut with_deadline = request(&command);
        with_deadline.deadline = Some(now + Duration::from_secs(1));
        let (b, _) = exchanges
            .submit(&mut with_deadline, &mut None, &waker())
            .unwrap();
        assert_eq!(exchanges.armed(), Some(now + Duration::from_secs(1)));
        let mut batch = None;
        match point {
            "within" => assert_eq!(write(&mut exchanges, 5).len(), 5),
            "written" => assert_eq!(write(&mut exchanges, usize::MAX), bytes(&echo("b"))),
            "handed over" => batch = exchanges.hand_over(),
            _ => {}
        }
        let woken = exchanges.expire(now + Duration::from_secs(1));
        assert_eq!((woken.len(), exchanges.armed()), (1, None));
        let expected = match point {
            "before" => "not sent, Timeout",
            _ => "maybe, Timeout",
        };
        assert_eq!(outcome(&mut exchanges, b), expected, "{point}");
        if let Some(batch) = batch {
            exchanges.settle(batch, 0);
        }
        let rest = String::from_utf8(write(&mut exchanges, usize::MAX)).unwrap();
        assert_eq!(rest.is_empty(), point != "within", "{point}: {rest}");
        if point == "within" || point == "written" {
            exchanges.answer(Ok(Value::bulk("b"))).unwrap();
        }
        assert!(is_empty(&exchanges), "{point}: {exchanges:?}");
    }
}

#[test]
fn a_pipeline_that_has_begun_is_sent_whole_though_its_caller_left() {
    let mut exchanges = Exchanges::new();
    let transaction = ["MULTI", "PING", "EXEC"].map(Command::new);
    let (slot, _) = exchanges
        .submit(&mut request(&transaction), &mut None, &waker())
        .unwrap();
    assert_eq!(write(&mut exchanges, 20).len(), 20);
    exchanges.abandon(slot);
    let whole: Vec<u8> = transaction.iter().flat_map(bytes).collect();
    assert_eq!(write(&mut exchanges, usize::MAX), whole[20..]);
    for _ in 0..3 {
        exchanges.answer(Ok(Value::Ok)).unwrap();
    }
    assert!(is_empty(&exchanges));
}

#[test]
fn a_reply_to_no_command_is_found_out() {
    let mut exchanges = Exchanges::new();
    exchanges.answer(Ok(Value::Ok)).unwrap_err();
    submit(&mut exchanges, &echo("a"));
    exchanges.answer(Ok(Value::Ok)).unwrap_err();
    write(&mut exchanges, 3);
    let error = ServerError::new("ERR", "Protocol error");
    let Unasked(said) = exchanges.answer(Err(error.clone())).unwrap_err();
    assert_eq!(said, Some(error));
}

#[test]
fn only_the_frame_that_a_command_waits_for_confirms_it() {
    let mut exchanges = Exchanges::new();
    let commands = ["one", "two"].map(|name| Command::new("SSUBSCRIBE").arg(name));
    let confirms = ["one", "two"].map(|name| Confirm {
        kind: "ssubscribe",
        name: name.into(),
    });
    let mut asked = request(&commands);
    asked.confirms = Some(Box::new(confirms));
    let (slot, _) = exchanges.submit(&mut asked, &mut None, &waker()).unwrap();
    write(&mut exchanges, usize::MAX);
    assert!(exchanges.confirm(b"sunsubscribe", b"one").is_none());
    assert!(exchanges.confirm(b"ssubscribe", b"two").is_none());
    assert!(matches!(
        exchanges.confirm(b"ssubscribe", b"one"),
        Some(None)
    ));
    let refusal = ServerError::new("TRYAGAIN", "not now");
    assert!(exchanges.answer(Err(refusal)).unwrap().is_some());
    let Some(Ok(Taken::Many(replies))) = exchanges.outcome(slot, &waker()) else {
        panic!("both are answered");
    };
    assert!(replies[0].is_ok() && replies[1].is_err());
    assert!(exchanges.confirm(b"ssubscribe", b"two").is_none());
}

#[test]
fn callers_wait_for_room_and_are_told_of_it() {
    let mut exchanges = Exchanges::new();
    let calls = Arc::new(Calls::default());
    let large = Command::new("SET").key("k").arg("x".repeat(15_000));
    let mut slots = Vec::new();
    let refused = loop {
        let commands = std::slice::from_ref(&large);
        match exchanges.submit(
            &mut request(commands),
            &mut None,
            &Arc::clone(&calls).into(),
        ) {
            Ok((slot, _)) => slots.push(slot),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refused, Refusal::Full));
    assert!(exchanges.waiting() < MOST_WAITING + 16_000);
    assert!(slots.len() > 1000);
    // The callers' own bytes are not counted, because nothing is kept of them that is ours.
    let before = exchanges.waiting();
    let called = |calls: &Calls| calls.0.load(Ordering::Relaxed);
    assert_eq!(called(&calls), 0);
    for slot in slots {
        exchanges.abandon(slot).into_iter().for_each(Waker::wake);
    }
    assert!(exchanges.waiting() < before);
    assert_eq!(called(&calls), 1, "who waited for room is woken");
    assert!(exchanges.hand_over().is_none());
    assert!(is_empty(&exchanges), "{:?}", exchanges.held());
}

#[test]
fn callers_who_give_up_by_the_hundred_thousand_leave_nothing() {
    let mut exchanges = Exchanges::new();
    let (first, _) = submit(&mut exchanges, &echo("first"));
    // The server takes no more than a part of it.
    assert_eq!(write(&mut exchanges, 7).len(), 7);
    let mut most = 0;
    for number in 0..200_000 {
        let (slot, _) = submit(&mut exchanges, &echo(&number.to_string()));
        exchanges.abandon(slot);
        let (entries, slots, bytes) = exchanges.held();
        most = most.max(entries + bytes);
        assert_eq!(slots, 1);
    }
    assert!(most < 2 * MOST_KEPT, "{most}");
    assert_eq!(exchanges.owed(), 1);
    write(&mut exchanges, usize::MAX);
    exchanges.answer(Ok(Value::bulk("first"))).unwrap();
    assert_eq!(outcome(&mut exchanges, first), "first");
    assert!(is_empty(&exchanges));
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Call { size: usize, commands: usize },
    Leave(usize),
    Write(usize),
    HandOver,
    Settle(usize),
    Answer,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (prop_oneof![0_usize..40, 8_000_usize..9_000, 16_384_usize..40_000], 1_usize..4)
            .prop_map(|(size, commands)| Event::Call { size, commands }),
        2 => any::<usize>().prop_map(Event::Leave),
        3 => prop_oneof![0_usize..60, 0_usize..60_000].prop_map(Event::Write),
        1 => Just(Event::HandOver),
        1 => prop_oneof![0_usize..60, 0_usize..60_000].prop_map(Event::Settle),
        4 => Just(Event::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A server that reads what was written, whole commands only, and answers with what they say:
    /// whoever still waits gets the answer to its own.
    #[test]
    fn whatever_happens_commands_stay_whole_and_replies_find_their_callers(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut exchanges = Exchanges::new();
        let mut waiting: Vec<(u32, Vec<String>)> = Vec::new();
        let mut socket: Vec<u8> = Vec::new();
        let mut read = 0;
        let mut held: Option<Batch> = None;
        let mut number = 0;
        let take = |socket: &mut Vec<u8>, batch: &Batch, most: usize| {
            let whole: Vec<u8> = batch.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let count = most.min(whole.len());
            socket.extend_from_slice(&whole[..count]);
            count
        };
        let end = [Event::Settle(0), Event::Write(usize::MAX)];
        let all_out = std::iter::repeat_n([Event::Write(usize::MAX), Event::Answer], 400).flatten();
        for event in events.into_iter().chain(end).chain(all_out) {
            match event {
                Event::Call { size, commands } => {
                    let texts: Vec<String> = (0..commands)
                        .map(|_| { number += 1; format!("{number}:{}", "x".repeat(size)) })
                        .collect();
                    let commands: Vec<Command> = texts
                        .iter()
                        .map(|text| Command::new("ECHO").arg(Bytes::from(text.clone())))
                        .collect();
                    let (slot, _) = exchanges.submit(&mut request(&commands), &mut None, &waker()).unwrap();
                    waiting.push((slot, texts));
                }
                Event::Leave(which) if !waiting.is_empty() => {
                    let (slot, _) = waiting.swap_remove(which % waiting.len());
                    exchanges.abandon(slot);
                }
                Event::Leave(_) => {}
                Event::Write(most) => if let Some(batch) = exchanges.hand_over() {
                    let count = take(&mut socket, &batch, most);
                    exchanges.settle(batch, count);
                },
                Event::HandOver => if held.is_none() {
                    held = exchanges.hand_over();
                },
                Event::Settle(most) => if let Some(batch) = held.take() {
                    let count = take(&mut socket, &batch, most);
                    exchanges.settle(batch, count);
                },
                Event::Answer => if let Some((text, length)) = command_in(&socket[read..]) {
                    read += length;
                    exchanges.answer(Ok(Value::bulk(text))).unwrap();
                }
            }
            waiting.retain(|(slot, texts)| match exchanges.outcome(*slot, &waker()) {
                None => true,
                Some(Ok(Taken::One(reply))) => {
                    assert_eq!(&[reply.unwrap().to::<String>().unwrap()][..], texts);
                    false
                }
                Some(Ok(Taken::Many(replies))) => {
                    let got: Vec<String> = replies.into_iter().map(|one| one.unwrap().to().unwrap()).collect();
                    assert_eq!(&got, texts);
                    false
                }
                Some(Err(error)) => panic!("{error}"),
            });
        }
        prop_assert_eq!(read, socket.len(), "only whole commands were written");
        prop_assert!(waiting.is_empty());
        prop_assert!(is_empty(&exchanges), "{:?}", exchanges.held());
    }
}

/// The text of the first `ECHO` in `bytes`, when it is whole, and how long the command is.
fn command_in(bytes: &[u8]) -> Option<(String, usize)> {
    let head = b"*2\r\n$4\r\nECHO\r\n$";
    if bytes.len() < head.len() {
        return None;
    }
    assert_eq!(
        &bytes[..head.len()],
        head,
        "a command begins where the last one ended"
    );
    let rest = &bytes[head.len()..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let length: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
    let text = rest.get(end + 2..end + 2 + length)?;
    rest.get(..end + 4 + length)?;
    Some((
        String::from_utf8(text.to_vec()).unwrap(),
        head.len() + end + 4 + length,
    ))
}
