//! What the fuzz targets drive. There with `--cfg fuzzing`, and in the tests, so that no change leaves it behind.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "for fuzzing"
)]

use std::task::Waker;

use bytes::Bytes;

use super::decoder::{Decoder, Limits};
use super::encode::segments;
use super::exchanges::{Exchanges, Request};
use crate::command::Command;
use crate::error::{Fault, FaultKind};
use crate::value::Value;

/// What comes out of `bytes`, fed in pieces, as text: floating-point numbers that are none differ
/// from themselves.
pub fn decode_in_pieces(bytes: &[u8], piece: usize) -> String {
    let mut decoder = Decoder::new(Limits {
        bulk: 1 << 20,
        depth: 16,
        total: 1 << 20,
    });
    let mut all = String::new();
    for bytes in bytes.chunks(piece) {
        decoder.feed(bytes);
        assert!(decoder.kept() <= 256 * 1024 + 4 * bytes.len());
        loop {
            match decoder.next() {
                Ok(Some(frame)) => all.push_str(&format!("{frame:?}\n")),
                Ok(None) => break,
                Err(violation) => return all + &violation.to_string(),
            }
        }
    }
    all
}

/// Does to a connection's queue what the bytes say.
pub fn exchange(data: &[u8]) {
    let mut exchanges = Exchanges::new();
    let mut slots = Vec::new();
    let mut batch = None;
    let waker = Waker::noop();
    for (number, pair) in data.chunks_exact(2).enumerate() {
        let size = usize::from(pair[1]);
        match pair[0] % 7 {
            0 | 1 => {
                let large = if pair[1] > 200 { 20_000 } else { 0 };
                let text = Bytes::from(vec![b'x'; size + large]);
                let commands = vec![Command::new("ECHO").arg(text); 1 + size % 3];
                let mut request = Request {
                    commands: &commands,
                    segments: segments(&commands),
                    confirms: None,
                    deadline: None,
                };
                if let Ok((slot, _)) = exchanges.submit(&mut request, &mut None, waker) {
                    slots.push(slot);
                }
            }
            2 if !slots.is_empty() => {
                drop(exchanges.abandon(slots.swap_remove(size % slots.len())));
            }
            3 if batch.is_none() => batch = exchanges.hand_over(),
            4 => {
                if let Some(batch) = batch.take() {
                    let all: usize = batch.slices().iter().map(|one| one.len()).sum();
                    exchanges.settle(batch, (size * size).min(all));
                    if exchanges.is_violated() {
                        exchanges.close(&Fault::new(FaultKind::Protocol, "violated"));
                    }
                }
            }
            5 => drop(exchanges.answer(Ok(Value::Ok))),
            6 if number % 64 == 63 => {
                exchanges.close(&Fault::new(FaultKind::Disconnected, "over"));
            }
            _ => {}
        }
        slots.retain(|slot| exchanges.outcome(*slot, waker).is_none());
    }
    if let Some(batch) = batch {
        exchanges.settle(batch, 0);
    }
    exchanges.close(&Fault::new(FaultKind::Disconnected, "over"));
    slots.retain(|slot| exchanges.outcome(*slot, waker).is_none());
    assert!(slots.is_empty());
    assert_eq!(
        (exchanges.held(), exchanges.owed(), exchanges.waiting()),
        ((0, 0, 0), 0, 0)
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_order_of_events_leaves_nothing_behind(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::exchange(&data);
        }

        #[test]
        fn bytes_mean_the_same_in_any_pieces(
            data in proptest::collection::vec(any::<u8>(), 1..600),
            piece in 1_usize..64,
        ) {
            let whole = super::decode_in_pieces(&data, usize::MAX);
            prop_assert_eq!(whole, super::decode_in_pieces(&data, piece));
        }
    }
}
