//! Lists: both ends, the middle, moves, caps.

use std::ops::Bound;

use redkit_collections::{End, Error, List, Occurrences};
use redkit_core::{Command, Error as CoreError, ErrorKind};
use redkit_testkit::Fixture;

fn list(fixture: &Fixture, key: &str) -> List<u32> {
    List::new(&fixture.client, key)
}

redkit_testkit::suite! {
    async fn items_come_and_go_at_both_ends(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        assert_eq!((list.pop_front().await?, list.pop_back().await?), (None, None));
        assert!(list.pop_front_many(3).await?.is_empty());
        assert_eq!(list.push_front_if_exists(&1).await?, 0);
        assert_eq!(list.push_back_if_exists(&1).await?, 0);
        assert_eq!(list.push_back(&3).await?, 1);
        assert_eq!(list.push_back_many(&[4, 5]).await?, 3);
        assert_eq!(list.push_front(&2).await?, 4);
        assert_eq!(list.push_front_many(&[1, 0]).await?, 6);
        assert_eq!(list.push_front_many::<u32>([]).await?, 6, "nothing is the list's length");
        assert_eq!(list.push_back_if_exists(&6).await?, 7);
        assert_eq!(list.range(..).await?, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((list.pop_front().await?, list.pop_back().await?), (Some(0), Some(6)));
        assert_eq!(list.pop_front_many(2).await?, [1, 2]);
        assert_eq!(list.pop_back_many(9).await?, [5, 4, 3]);
        assert!(list.is_empty().await? && !list.exists().await?);
        Ok(())
    }

    async fn ranges_are_rusts(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        list.push_back_many(&[0, 1, 2, 3, 4]).await?;
        assert_eq!(list.range(1..3).await?, [1, 2]);
        assert_eq!(list.range(1..=3).await?, [1, 2, 3]);
        assert_eq!(list.range(-2..).await?, [3, 4]);
        assert_eq!(list.range(..-1).await?, [0, 1, 2, 3]);
        assert_eq!(list.range(0..0).await?, [0; 0], "nothing is not everything");
        assert_eq!(list.range((Bound::Excluded(-1), Bound::Unbounded)).await?, [0; 0]);
        assert_eq!((list.get(1).await?, list.get(-1).await?, list.get(9).await?), (Some(1), Some(4), None));
        list.trim(1..).await?;
        list.trim(..3).await?;
        assert_eq!(list.range(..).await?, [1, 2, 3]);
        list.trim(0..0).await?;
        assert!(!list.exists().await?);
        Ok(())
    }

    async fn the_middle_can_be_changed(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        assert!(!list.set(0, &9).await?, "there is no list");
        assert_eq!(list.insert_before(&1, &0).await?, None);
        list.push_back_many(&[1, 3, 1, 3, 1]).await?;
        assert!(list.set(-1, &7).await? && !list.set(5, &9).await?);
        assert_eq!(list.insert_before(&3, &2).await?, Some(6));
        assert_eq!(list.insert_after(&3, &4).await?, Some(7));
        assert_eq!(list.insert_after(&99, &4).await?, None);
        assert_eq!(list.range(..).await?, [1, 2, 3, 4, 1, 3, 7]);
        assert_eq!((list.position(&3).await?, list.position(&99).await?), (Some(2), None));
        assert_eq!(list.positions(&1, Occurrences::All).await?, [0, 4]);
        assert_eq!(list.positions(&1, Occurrences::Last(1)).await?, [4]);
        assert_eq!(list.positions(&3, Occurrences::First(9)).await?, [2, 5]);
        assert_eq!(list.remove(&1, Occurrences::Last(1)).await?, 1);
        assert_eq!(list.remove(&3, Occurrences::First(0)).await?, 0, "none is not all");
        assert_eq!(list.remove(&3, Occurrences::All).await?, 2);
        assert_eq!(list.remove(&7, Occurrences::First(5)).await?, 1);
        assert_eq!(list.range(..).await?, [1, 2, 4]);
        Ok(())
    }

    async fn a_capped_list_keeps_the_newest(fixture: Fixture) -> Result<(), Error> {
        let (front, back) = (list(&fixture, "f"), list(&fixture, "b"));
        for n in 0..10 {
            let expected = usize::try_from(n + 1).unwrap().min(3);
            assert_eq!(front.push_front_capped([&n], 3).await?, expected);
            assert_eq!(back.push_back_capped([&n], 3).await?, expected);
        }
        assert_eq!(front.range(..).await?, [9, 8, 7]);
        assert_eq!(back.range(..).await?, [7, 8, 9]);
        // More at once than Lua can pass on.
        let many: Vec<u32> = (0..20_000).collect();
        assert_eq!(front.push_front_capped(&many, 15_000).await?, 15_000);
        assert_eq!((front.get(0).await?, front.get(-1).await?), (Some(19_999), Some(5_000)));
        assert_eq!(back.push_back_capped(&many, 2).await?, 2);
        assert_eq!(back.range(..).await?, [19_998, 19_999]);
        assert_eq!(back.push_back_capped::<u32>([], 2).await?, 2);
        let error = back.push_back_capped(&many, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(back.len().await?, 2, "nothing was sent");
        Ok(())
    }

    async fn items_move_between_lists(fixture: Fixture) -> Result<(), Error> {
        let (waiting, working) = (list(&fixture, "{jobs}:waiting"), list(&fixture, "{jobs}:working"));
        assert_eq!(waiting.move_to(&working, End::Front, End::Back).await?, None);
        waiting.push_back_many(&[1, 2, 3]).await?;
        assert_eq!(waiting.move_to(&working, End::Front, End::Back).await?, Some(1));
        assert_eq!(waiting.move_to(&working, End::Back, End::Front).await?, Some(3));
        assert_eq!(working.range(..).await?, [3, 1]);
        assert_eq!(working.move_to(&working, End::Front, End::Back).await?, Some(3), "it is rotated");
        assert_eq!(working.range(..).await?, [1, 3]);
        Ok(())
    }

    async fn a_stream_goes_through_pages(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        assert!(list.stream().page(3).collect().await?.is_empty());
        let items: Vec<u32> = (0..10).collect();
        list.push_back_many(&items).await?;
        for page in [0, 1, 3, 5, 10, 11] {
            assert_eq!(list.stream().page(page).collect().await?, items, "by {page}");
        }
        Ok(())
    }

    async fn an_item_that_was_taken_and_cannot_be_read_is_not_lost(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        let push = Command::new("RPUSH").key(list.key()).args(["1", "not a number", "3", "{"]);
        fixture.client.call::<i64>(push).await?;
        let error = list.pop_front_many(3).await.unwrap_err();
        let Error::Undecodable { taken, error: cause, .. } = &error else { panic!("{error}") };
        assert!(matches!(&**cause, CoreError::Decode { .. }), "{cause}");
        assert_eq!(taken, &["1", "not a number", "3"]);
        assert!(!error.to_string().contains("not a number"), "{error}");
        let error = list.pop_back().await.unwrap_err();
        assert!(matches!(&error, Error::Undecodable { taken, .. } if taken == &["{"]), "{error}");
        assert!(list.is_empty().await?);
        Ok(())
    }

    async fn another_type_of_key_is_an_error(fixture: Fixture) -> Result<(), Error> {
        let list = list(&fixture, "l");
        fixture.client.call::<()>(Command::new("SET").key(list.key()).arg("x")).await?;
        let ttl = redkit_collections::Lifetime::on_create(std::time::Duration::from_secs(60))?;
        for list in [list.clone(), list.clone().with_ttl(ttl)] {
            let error = list.push_back(&1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Server);
            assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        }
        for range in [0..1, 0..0] {
            let error = list.trim(range).await.unwrap_err();
            assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        }
        let left: i64 = fixture.client.call(Command::new("PTTL").key(list.key())).await?;
        assert_eq!(left, -1, "what was there got no time to live");
        Ok(())
    }
}
