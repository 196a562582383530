use super::*;

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// A publication that is acknowledged in its second.
fn publishing(key: u64, at: u64) -> Publishing {
    Publishing {
        process: ProcessId(0),
        key,
        start: second(at),
        end: second(at),
        outcome: Outcome::Replied(()),
    }
}

fn handling(process: u32, message: u64, attempt: u32, start: u64, how: Handled) -> Handling {
    Handling {
        process: ProcessId(process),
        message,
        attempt,
        start: second(start),
        end: second(start + 1),
        how,
    }
}

/// Messages 1 and 2 of one key, published in the first two seconds.
fn two(handlings: &[Handling]) -> Delivery {
    let mut delivery = Delivery::new().ordered();
    delivery.published(1, publishing(0, 1));
    delivery.published(2, publishing(0, 2));
    for handling in handlings {
        delivery.handled(*handling);
    }
    delivery
}

fn guarantee(delivery: &Delivery) -> &'static str {
    delivery.check().unwrap_err().guarantee()
}

#[test]
fn messages_in_order_with_retries_are_accepted() {
    let delivery = two(&[
        handling(1, 1, 1, 3, Handled::Failed),
        handling(2, 1, 2, 5, Handled::Done),
        handling(2, 2, 1, 6, Handled::Done),
    ]);
    delivery.check().unwrap();
}

#[test]
fn a_message_that_is_never_handled_is_lost() {
    let delivery = two(&[handling(1, 1, 1, 3, Handled::Done)]);
    assert_eq!(guarantee(&delivery), "no message is lost");
    let delivery = two(&[
        handling(1, 1, 1, 3, Handled::Done),
        handling(1, 2, 1, 4, Handled::Failed),
    ]);
    assert_eq!(guarantee(&delivery), "no message is lost");
}

#[test]
fn a_dead_letter_is_not_lost_and_lets_the_next_go() {
    let mut delivery = two(&[
        handling(1, 1, 1, 3, Handled::Failed),
        handling(1, 2, 1, 6, Handled::Done),
    ]);
    delivery.dead_lettered(1, second(5));
    delivery.check().unwrap();
}

#[test]
fn a_message_that_overtakes_one_of_its_key_is_refused() {
    let handlings = [
        handling(1, 2, 1, 3, Handled::Done),
        handling(1, 1, 1, 4, Handled::Done),
    ];
    assert_eq!(guarantee(&two(&handlings)), "order of a key");
    let mut other_keys = two(&handlings);
    other_keys.published(2, publishing(9, 2));
    other_keys.check().unwrap();
}

#[test]
fn messages_published_at_the_same_time_have_no_order() {
    let mut delivery = two(&[
        handling(1, 2, 1, 5, Handled::Done),
        handling(1, 1, 1, 6, Handled::Done),
    ]);
    let end = second(4);
    delivery.published(
        1,
        Publishing {
            end,
            ..publishing(0, 1)
        },
    );
    delivery.check().unwrap();
}

#[test]
fn a_message_that_was_done_is_handled_again_only_after_its_consumer_was_away() {
    let mut delivery = two(&[
        handling(1, 1, 1, 3, Handled::Done),
        handling(2, 1, 2, 6, Handled::Done),
        handling(2, 2, 1, 8, Handled::Done),
    ]);
    assert_eq!(guarantee(&delivery), "a message is handled once");
    delivery.away(ProcessId(2), second(4), second(5), second(5), second(1));
    assert_eq!(guarantee(&delivery), "a message is handled once");
    delivery.away(ProcessId(1), second(4), second(5), second(5), second(1));
    delivery.check().unwrap();
}

#[test]
fn an_absence_long_after_a_message_was_done_does_not_excuse_that_it_comes_again() {
    let mut delivery = two(&[
        handling(1, 1, 1, 3, Handled::Done),
        handling(2, 1, 1, 9, Handled::Done),
        handling(2, 2, 1, 11, Handled::Done),
    ])
    .lease(second(3));
    delivery.away(ProcessId(1), second(6), second(8), second(8), second(2));
    assert_eq!(guarantee(&delivery), "a message is handled once");
    // Its acknowledgement was under way then.
    delivery.away(ProcessId(1), second(5), second(8), second(8), second(3));
    delivery.check().unwrap();
}

#[test]
fn an_absence_that_is_too_short_for_anybody_to_notice_costs_no_attempt() {
    let mut delivery = two(&[
        handling(1, 1, 1, 3, Handled::Cut),
        handling(2, 1, 2, 5, Handled::Done),
        handling(2, 2, 1, 7, Handled::Done),
    ])
    .lease(second(4));
    delivery.away(ProcessId(1), second(3), second(4), second(4), second(1));
    assert_eq!(guarantee(&delivery), "attempts");
    delivery.away(ProcessId(1), second(3), second(4), second(4), second(2));
    delivery.check().unwrap();
}

#[test]
fn two_consumers_with_one_message_at_a_time_are_refused() {
    let first = Handling {
        end: second(9),
        ..handling(1, 1, 1, 3, Handled::Failed)
    };
    let mut delivery = two(&[first, handling(2, 1, 1, 5, Handled::Done)]);
    delivery.handled(handling(2, 2, 1, 9, Handled::Done));
    assert_eq!(guarantee(&delivery), "a message is handled once");
}

#[test]
fn an_attempt_that_a_drain_has_used_is_refused() {
    let delivery = two(&[
        handling(1, 1, 1, 3, Handled::Cut),
        handling(2, 1, 2, 5, Handled::Done),
        handling(2, 2, 1, 7, Handled::Done),
    ]);
    assert_eq!(guarantee(&delivery), "attempts");
    let mut delivery = delivery;
    delivery.away(
        ProcessId(1),
        second(4),
        Duration::MAX,
        Duration::MAX,
        Duration::MAX,
    );
    delivery.check().unwrap();
}

#[test]
fn an_absence_that_was_over_before_the_publication_costs_no_attempt() {
    let mut delivery = two(&[
        handling(2, 1, 1, 3, Handled::Done),
        handling(2, 2, 2, 5, Handled::Done),
    ]);
    delivery.away(ProcessId(1), second(0), second(1), second(1), second(1));
    assert_eq!(guarantee(&delivery), "attempts");
    let mut later = delivery.clone();
    delivery.away(ProcessId(1), second(1), second(2), second(2), second(1));
    delivery.check().unwrap();
    later.died(ProcessId(1), second(0), second(1), second(2));
    later.check().unwrap();
    later.handled(handling(1, 1, 1, 6, Handled::Done));
    assert_eq!(guarantee(&later), "a message is handled once");
}

#[test]
fn a_message_that_nobody_published_is_refused() {
    let mut delivery = Delivery::new();
    delivery.handled(handling(1, 7, 1, 3, Handled::Done));
    assert_eq!(guarantee(&delivery), "delivery");
}

#[test]
fn a_publication_of_unknown_outcome_may_be_handled_or_not() {
    let mut delivery = Delivery::new();
    let outcome = Outcome::Maybe;
    delivery.published(
        1,
        Publishing {
            outcome,
            ..publishing(0, 1)
        },
    );
    delivery.check().unwrap();
    delivery.handled(handling(1, 1, 1, 3, Handled::Done));
    delivery.check().unwrap();
}

#[test]
fn a_dead_letter_has_used_all_its_attempts() {
    let mut never_handled = Delivery::new().max_attempts(2);
    never_handled.published(1, publishing(0, 1));
    never_handled.dead_lettered(1, second(5));
    assert_eq!(guarantee(&never_handled), "attempts");
    never_handled.away(ProcessId(1), second(2), second(4), second(4), second(2));
    assert_eq!(guarantee(&never_handled), "attempts");
    never_handled.died(ProcessId(2), second(3), second(4), second(4));
    never_handled.check().unwrap();

    let mut failed = two(&[
        handling(1, 1, 1, 3, Handled::Failed),
        handling(1, 2, 1, 8, Handled::Done),
    ])
    .max_attempts(2);
    failed.dead_lettered(1, second(4));
    assert_eq!(guarantee(&failed), "attempts");
    failed.handled(handling(2, 1, 2, 5, Handled::Failed));
    failed.check().unwrap();
}
