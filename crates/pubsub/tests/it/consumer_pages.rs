//! How many messages a consumer reads at once.

use redkit_core::Command;
use redkit_testkit::{FaultyBackend, Injection, Rule};

use crate::handling::{Seen, acknowledge, topic, until};

/// A reply with more than 16 entries takes longer than its time: those entries are the worker's, which does not know of
/// them.
#[tokio::test(start_paused = true)]
async fn a_topic_whose_pages_are_too_large_for_the_network_is_read_in_smaller_ones() {
    for is_ordered in [false, true] {
        let backend = FaultyBackend::embedded();
        let topic = topic(&backend.client());
        for n in 0..300 {
            topic.publish(&n).await.unwrap();
        }
        // A tick names the count behind the waiting consumer and the lease, an owner's call behind its consumer; both name one
        // or two other arguments then.
        let count = |command: &Command| {
            let args: Vec<&[u8]> = command.iter().collect();
            let behind = |name: &str| args.iter().position(|arg| *arg == name.as_bytes());
            let at = match command.name() {
                "XREADGROUP" => behind("COUNT")? + 1,
                _ => match behind("~waiting").filter(|at| args.len() == at + 4) {
                    Some(at) => at + 2,
                    None => behind("ordered").filter(|at| args.len() == at + 4)? + 1,
                },
            };
            String::from_utf8_lossy(args.get(at)?).parse::<u32>().ok()
        };
        let is_large = move |command: &Command| count(command).is_some_and(|count| count > 16);
        backend.add(Rule::new(Injection::HangAfter).on(is_large));
        let seen = Seen::default();
        let consumer = topic.consumer("g").prefetch(100);
        let consumer = match is_ordered {
            true => consumer.ordered(),
            false => consumer,
        };
        let _worker = acknowledge(consumer, &seen).await;
        let all = || seen.len() >= 300;
        until(&format!("all were handled, ordered: {is_ordered}"), all).await;
        assert!(backend.seen().iter().any(is_large), "ordered: {is_ordered}");
    }
}
