//! What a scan promises while the collection changes under it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use redkit_core::{Backend, Command, Value};
use redkit_embedded::Embedded;

/// What is done between two calls of a scan: items added and removed, by number.
type Churn = Vec<(Vec<u16>, Vec<u16>)>;

struct Family {
    scan: &'static [&'static str],
    add: &'static [&'static str],
    remove: &'static [&'static str],
    /// Items per reported element.
    width: usize,
}

const FAMILIES: &[Family] = &[
    Family {
        scan: &["SCAN"],
        add: &["SETNX"],
        remove: &["DEL"],
        width: 1,
    },
    Family {
        scan: &["HSCAN", "h"],
        add: &["HSETNX", "h"],
        remove: &["HDEL", "h"],
        width: 2,
    },
    Family {
        scan: &["SSCAN", "s"],
        add: &["SADD", "s"],
        remove: &["SREM", "s"],
        width: 1,
    },
    Family {
        scan: &["ZSCAN", "z"],
        add: &["ZADD", "z", "1"],
        remove: &["ZREM", "z"],
        width: 2,
    },
];

fn command(words: &[&str]) -> Command {
    Command::new(words[0]).args(&words[1..])
}

async fn scan_under_churn(family: &Family, start: &BTreeSet<u16>, churn: Churn, count: u8) {
    let engine = Embedded::new();
    let add = |item: u16| {
        let command = command(family.add).arg(item);
        match family.add[0] {
            "SETNX" | "HSETNX" => command.arg("v"),
            _ => command,
        }
    };
    for item in start {
        engine.call(&add(*item)).await.unwrap();
    }
    // Those that nobody touches are there during the whole scan.
    let touched: BTreeSet<u16> = churn.iter().flat_map(|(_, gone)| gone.clone()).collect();
    let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeSet::new(), churn.into_iter());
    loop {
        let scan = command(family.scan).arg(&cursor).arg("COUNT").arg(count);
        let reply = engine.call(&scan).await.unwrap();
        let (next, items): (String, Vec<Value>) = reply.to().unwrap();
        assert!(
            items.len() <= usize::from(count) * family.width,
            "bounded work"
        );
        for item in items.into_iter().step_by(family.width) {
            seen.insert(item.to::<String>().unwrap());
        }
        if next == "0" {
            break;
        }
        cursor = next;
        if let Some((new, gone)) = steps.next() {
            for item in new {
                engine.call(&add(item)).await.unwrap();
            }
            for item in gone {
                engine
                    .call(&command(family.remove).arg(item))
                    .await
                    .unwrap();
            }
        }
    }
    for item in start.difference(&touched) {
        assert!(
            seen.contains(&item.to_string()),
            "{} lost {item}",
            family.scan[0]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    #[test]
    fn what_is_there_all_the_time_is_seen(
        start in proptest::collection::btree_set(0_u16..300, 1..200),
        churn in proptest::collection::vec(
            (
                proptest::collection::vec(0_u16..600, 0..8),
                proptest::collection::vec(0_u16..300, 0..8),
            ),
            0..40,
        ),
        count in 1_u8..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for family in FAMILIES {
            runtime.block_on(scan_under_churn(family, &start, churn.clone(), count));
        }
    }
}
