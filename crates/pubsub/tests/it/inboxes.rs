//! Inboxes: pushing, reading, confirming.

use std::collections::BTreeSet;
use std::time::Duration;

use redkit_core::Command;
use redkit_pubsub::{Batch, Error, Inbox, ReadToken};
use redkit_testkit::Fixture;

fn inbox(fixture: &Fixture) -> Inbox<u32> {
    Inbox::builder(&fixture.client, "notes").build().unwrap()
}

async fn push(inbox: &Inbox<u32>, range: std::ops::Range<u32>) {
    for n in range {
        inbox.push("ann", &n).await.unwrap();
    }
}

fn values(batch: &Batch<u32>) -> Vec<u32> {
    batch
        .items
        .iter()
        .map(|item| *item.value.as_ref().unwrap())
        .collect()
}

redkit_testkit::suite! {
    async fn what_is_read_stays_until_it_is_confirmed(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture);
        assert!(inbox.read("ann", 10).await?.items.is_empty());
        push(&inbox, 0..3).await;
        inbox.push("bob", &9).await?;
        let batch = inbox.read("ann", 10).await?;
        assert_eq!(values(&batch), [0, 1, 2]);
        assert!(batch.items.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(inbox.unread("ann").await?, 3);
        // What arrives while the user reads is not removed unread.
        push(&inbox, 3..5).await;
        assert_eq!(inbox.confirm("ann", &batch.token).await?, 3);
        assert_eq!(inbox.confirm("ann", &batch.token).await?, 0, "once");
        assert_eq!(inbox.unread("ann").await?, 2);
        let next = inbox.read_next("ann", &batch.token, 1).await?;
        assert_eq!((values(&next), next.confirmed), (vec![3], 0));
        let last = inbox.read_next("ann", &next.token, 10).await?;
        assert_eq!((values(&last), last.confirmed), (vec![4], 1));
        let token = ReadToken::parse(&last.token.to_string())?;
        assert_eq!(inbox.confirm("ann", &token).await?, 1);
        assert_eq!((inbox.unread("ann").await?, inbox.unread("bob").await?), (0, 1));
        Ok(())
    }

    async fn an_item_is_read_by_one_reader_and_comes_again_when_its_time_is_over(fixture: Fixture) -> Result<(), Error> {
        let time = Duration::from_millis(300);
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").reading_time(time).build()?;
        push(&inbox, 0..6).await;
        let first = inbox.read("ann", 2).await?;
        let second = inbox.read("ann", 2).await?;
        assert_eq!((values(&first), values(&second)), (vec![0, 1], vec![2, 3]));
        assert_eq!(inbox.confirm("ann", &second.token).await?, 2);
        tokio::time::sleep(time + Duration::from_millis(50)).await;
        // The first reader died, and its items come first.
        let again = inbox.read("ann", 10).await?;
        assert_eq!(values(&again), [0, 1, 4, 5]);
        assert_eq!(inbox.confirm("ann", &first.token).await?, 0, "its time is over");
        assert_eq!(inbox.confirm("ann", &again.token).await?, 4);
        Ok(())
    }

    async fn a_reading_ends_where_anothers_begins(fixture: Fixture) -> Result<(), Error> {
        let short = Duration::from_millis(200);
        let hasty: Inbox<u32> = Inbox::builder(&fixture.client, "notes").reading_time(short).build()?;
        let inbox = inbox(&fixture);
        push(&inbox, 0..6).await;
        let dead = hasty.read("ann", 2).await?;
        let held = inbox.read("ann", 2).await?;
        assert_eq!((values(&dead), values(&held)), (vec![0, 1], vec![2, 3]));
        tokio::time::sleep(short + Duration::from_millis(50)).await;
        let before = inbox.read("ann", 10).await?;
        let behind = inbox.read("ann", 10).await?;
        assert_eq!((values(&before), values(&behind)), (vec![0, 1], vec![4, 5]));
        for batch in [before, held, behind] {
            assert_eq!(inbox.confirm("ann", &batch.token).await?, 2);
        }
        Ok(())
    }

    async fn pushes_and_readings_at_once_lose_nothing_and_confirm_nothing_twice(fixture: Fixture) -> Result<(), Error> {
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").capacity(10_000).build()?;
        const ITEMS: u32 = 300;
        let pusher = tokio::spawn({
            let inbox = inbox.clone();
            async move { push(&inbox, 0..ITEMS).await }
        });
        let reader = |inbox: Inbox<u32>| async move {
            let mut confirmed = Vec::new();
            let mut idle = 0;
            while idle < 20 {
                let batch = inbox.read("ann", 7).await.unwrap();
                if batch.items.is_empty() {
                    idle += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                idle = 0;
                let removed = inbox.confirm("ann", &batch.token).await.unwrap();
                assert_eq!(removed, batch.items.len() as u64);
                confirmed.extend(values(&batch));
            }
            confirmed
        };
        let readers: Vec<_> = (0..6).map(|_| tokio::spawn(reader(inbox.clone()))).collect();
        pusher.await.unwrap();
        let mut all = Vec::new();
        for reader in readers {
            all.extend(reader.await.unwrap());
        }
        assert_eq!(all.len(), ITEMS as usize, "none twice");
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (0..ITEMS).collect());
        Ok(())
    }

    async fn a_full_inbox_drops_the_oldest_and_says_so(fixture: Fixture) -> Result<(), Error> {
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").capacity(3).build()?;
        let mut dropped = Vec::new();
        for n in 0..5 {
            dropped.push(inbox.push("ann", &n).await?.dropped);
        }
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        let smaller: Inbox<u32> = Inbox::builder(&fixture.client, "notes").capacity(1).build()?;
        assert_eq!(smaller.push("ann", &5).await?.dropped, 3);
        assert_eq!(values(&inbox.read("ann", 10).await?), [5]);
        Ok(())
    }

    async fn one_item_reaches_many_users(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture);
        let users: Vec<String> = (0..50).map(|i| format!("user-{i}")).collect();
        let pushed = inbox.push_to_many(&users, &7).await?;
        assert_eq!(pushed.len(), users.len());
        for (user, pushed) in users.iter().zip(pushed) {
            let page = inbox.page(user, None, 10).await?;
            assert_eq!(page.len(), 1, "{user}");
            assert_eq!((page[0].id, page[0].value.as_ref().unwrap()), (pushed?.id, &7));
        }
        assert!(inbox.push_to_many(Vec::<String>::new(), &7).await?.is_empty());
        Ok(())
    }

    async fn pages_follow_each_other_and_remove_nothing(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture);
        push(&inbox, 0..5).await;
        let first = inbox.page("ann", None, 3).await?;
        let second = inbox.page("ann", Some(first[2].id), 3).await?;
        let seen: Vec<u32> = first.into_iter().chain(second).map(|item| item.value.unwrap()).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let page = inbox.page("ann", None, 2).await?;
        assert_eq!(inbox.confirm_up_to("ann", page[1].id).await?, 2);
        assert_eq!(inbox.unread("ann").await?, 3);
        inbox.clear("ann").await?;
        assert_eq!(inbox.unread("ann").await?, 0);
        Ok(())
    }

    async fn an_item_of_another_type_is_told_and_does_not_come_for_ever(fixture: Fixture) -> Result<(), Error> {
        let texts: Inbox<String> = Inbox::builder(&fixture.client, "notes").build()?;
        let inbox = inbox(&fixture);
        texts.push("ann", "no number").await?;
        push(&inbox, 1..2).await;
        let batch = inbox.read("ann", 10).await?;
        assert!(matches!(&batch.items[0].value, Err(redkit_core::Error::Decode { .. })));
        assert_eq!(batch.items[1].value.as_ref().unwrap(), &1);
        assert_eq!(inbox.confirm("ann", &batch.token).await?, 2);
        Ok(())
    }

    async fn no_key_stays_without_a_time_to_live(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture);
        push(&inbox, 0..2).await;
        let names = ["inbox:notes:{ann}", "inbox:notes:{ann}:state"].map(|name| fixture.client.key(name));
        let ttl = async |key| fixture.client.call::<i64>(Command::new("PTTL").key(key)).await;
        assert!(ttl(&names[0]).await? > 0 && ttl(&names[1]).await? > 0);
        // The state was lost alone, and a reading makes it anew.
        fixture.client.call::<u64>(Command::new("DEL").key(&names[1])).await?;
        assert_eq!(values(&inbox.read("ann", 10).await?), [0, 1]);
        assert!(ttl(&names[1]).await? > 0);
        Ok(())
    }

    async fn many_readings_at_once_hand_out_each_item_once(fixture: Fixture) -> Result<(), Error> {
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").capacity(1_000).build()?;
        push(&inbox, 0..600).await;
        let mut seen = Vec::new();
        let mut tokens = Vec::new();
        for most in (1..=3).cycle().take(299) {
            let batch = inbox.read("ann", most).await?;
            seen.extend(values(&batch));
            tokens.push(batch.token);
        }
        // Readings that end in the middle leave holes, which the next readings fill.
        for token in tokens.iter().step_by(7) {
            inbox.confirm("ann", token).await?;
        }
        seen.extend(values(&inbox.read("ann", 10).await?));
        assert_eq!(seen, (0..600).collect::<Vec<_>>());
        Ok(())
    }

    async fn an_id_is_pushed_once_into_an_inbox_however_often_it_is_said(fixture: Fixture) -> Result<(), Error> {
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").capacity(2).build()?;
        let first = inbox.push_once("ann", "order-7", &7).await?;
        assert!(!first.was_known);
        let again = inbox.push_once("ann", "order-7", &8).await?;
        assert_eq!((again.id, again.was_known), (first.id, true));
        assert!(!inbox.push_once("ann", "order-8", &8).await?.was_known);
        assert!(!inbox.push_once("bob", "order-7", &7).await?.was_known, "each user's inbox by itself");
        let full = inbox.push_once("ann", "order-9", &9).await?;
        let again = inbox.push_once("ann", "order-9", &9).await?;
        assert_eq!((full.dropped, again.dropped, again.was_known), (1, 1, true));
        let batch = inbox.read("ann", 10).await?;
        assert_eq!(values(&batch), [8, 9]);
        inbox.confirm("ann", &batch.token).await?;
        // What was read is not pushed again either.
        let users = ["ann", "bob", "cem"];
        let pushed = inbox.push_once_to_many(users, "order-9", &9).await?;
        let known: Vec<bool> = pushed.into_iter().map(|pushed| pushed.unwrap().was_known).collect();
        assert_eq!(known, [true, false, false]);
        assert_eq!(inbox.unread("ann").await?, 0);
        let error = inbox.push_once("ann", "", &1).await.unwrap_err();
        assert!(error.to_string().contains("id"), "{error}");
        Ok(())
    }

    #[paused]
    async fn an_id_of_a_push_is_known_for_its_time(fixture: Fixture) -> Result<(), Error> {
        let time = Duration::from_secs(60);
        let inbox: Inbox<u32> = Inbox::builder(&fixture.client, "notes").known_for(time).build()?;
        assert!(!inbox.push_once("ann", "a", &1).await?.was_known);
        tokio::time::advance(time / 2).await;
        assert!(inbox.push_once("ann", "a", &1).await?.was_known);
        tokio::time::advance(time).await;
        assert!(!inbox.push_once("ann", "a", &2).await?.was_known);
        let record = fixture.client.key("inbox:notes:{ann}:id:a");
        assert!(fixture.client.call::<i64>(Command::new("PTTL").key(record)).await? > 0);
        Ok(())
    }
}
