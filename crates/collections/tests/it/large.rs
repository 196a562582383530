//! Large collections, one page at a time.

use std::collections::HashSet;

use redkit_collections::{Error, Hash, List, Set, SortedSet};
use redkit_core::Pattern;
use redkit_testkit::Fixture;

use crate::watched::Watched;

const MANY: u32 = 20_000;

/// What a stream of items holds at a time is a reply: none of them may be large.
fn most_items(watched: &Watched, name: &str) -> (usize, usize) {
    let calls = watched.calls();
    assert!(
        calls.iter().all(|(called, _)| called == name),
        "{name} only"
    );
    let most = calls.iter().map(|(_, items)| *items).max().unwrap_or(0);
    (most, calls.len())
}

redkit_testkit::suite! {
    async fn large_collections_are_streamed_page_by_page(fixture: Fixture) -> Result<(), Error> {
        let watched = Watched::new(&fixture);
        let client = &watched.client;
        let items: Vec<u32> = (0..MANY).collect();

        let list: List<u32> = List::new(client, "list");
        for part in items.chunks(5_000) {
            list.push_back_many(part).await?;
        }
        watched.calls();
        let (mut stream, mut next) = (list.stream().page(500), 0);
        while let Some(item) = stream.next().await {
            assert_eq!(item?, next);
            next += 1;
        }
        assert_eq!(next, MANY);
        assert_eq!(most_items(&watched, "LRANGE"), (500, 41));

        let set: Set<u32> = Set::new(client, "set")?;
        let sorted: SortedSet<u32> = SortedSet::new(client, "sorted")?;
        let hash: Hash<u32> = Hash::new(client, "hash");
        for part in items.chunks(5_000) {
            set.add_many(part).await?;
            sorted.add_many(part.iter().map(|n| (n, f64::from(*n)))).await?;
            hash.set_many(part.iter().map(|n| (*n, n))).await?;
        }
        watched.calls();
        // A bucket can hold more than was asked for, not much more.
        let limit = 3 * 500;
        let mut seen = HashSet::new();
        let mut stream = set.scan(Pattern::all()).page(500);
        while let Some(item) = stream.next().await {
            seen.insert(item?);
        }
        assert_eq!(seen.len(), items.len());
        assert!(most_items(&watched, "SSCAN").0 < limit);
        seen.clear();
        let mut stream = sorted.scan(Pattern::all()).page(500);
        while let Some(item) = stream.next().await {
            let (item, score) = item?;
            assert!((f64::from(item) - score).abs() < 0.5);
            seen.insert(item);
        }
        assert_eq!(seen.len(), items.len());
        assert!(most_items(&watched, "ZSCAN").0 < 2 * limit);
        seen.clear();
        let mut stream = hash.fields::<u32>().scan(Pattern::all()).page(500);
        while let Some(item) = stream.next().await {
            let (field, value) = item?;
            assert_eq!(field, value);
            seen.insert(field);
        }
        assert_eq!(seen.len(), items.len());
        assert!(most_items(&watched, "HSCAN").0 < 2 * limit);
        Ok(())
    }
}
