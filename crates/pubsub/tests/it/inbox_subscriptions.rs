//! Inboxes of users who are connected.

use redkit_core::Command;
use redkit_pubsub::{Error, Inbox, InboxEvent};
use redkit_testkit::Fixture;

use crate::listening::{item, next_item};

fn inbox(fixture: &Fixture, capacity: u32) -> Inbox<u32> {
    Inbox::builder(&fixture.client, "notes")
        .capacity(capacity)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    async fn what_waits_comes_first_and_then_what_is_pushed(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 1_000);
        for n in 0..250 {
            inbox.push("ann", &n).await?;
        }
        let pusher = tokio::spawn({
            let inbox = inbox.clone();
            async move {
                for n in 250..500 {
                    inbox.push("ann", &n).await.unwrap();
                }
            }
        });
        let mut subscription = inbox.subscribe("ann", None).await?;
        for n in 0..500 {
            assert_eq!(item(&mut subscription).await, n, "in order, none missing, none twice");
        }
        pusher.await.unwrap();
        inbox.push("bob", &7).await?;
        inbox.push("ann", &500).await?;
        assert_eq!(item(&mut subscription).await, 500);
        assert_eq!(inbox.unread("ann").await?, 501, "they stay until they are confirmed");
        Ok(())
    }

    async fn a_user_who_comes_back_goes_on_behind_the_last_item(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        let mut ids = Vec::new();
        for n in 0..6 {
            ids.push(inbox.push("ann", &n).await?.id);
        }
        inbox.confirm_up_to("ann", ids[2]).await?;
        let after = ids[2].to_string().parse().unwrap();
        let mut subscription = inbox.subscribe("ann", Some(after)).await?;
        for n in 3..6 {
            assert_eq!(item(&mut subscription).await, n);
        }
        Ok(())
    }

    async fn what_a_full_inbox_dropped_behind_the_last_item_is_one_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 3);
        let first = inbox.push("ann", &0).await?.id;
        for n in 1..8 {
            inbox.push("ann", &n).await?;
        }
        let mut subscription = inbox.subscribe("ann", Some(first)).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        for n in 5..8 {
            assert_eq!(item(&mut subscription).await, n);
        }
        inbox.push("ann", &8).await?;
        assert_eq!(item(&mut subscription).await, 8);
        Ok(())
    }

    async fn an_inbox_that_was_lost_is_a_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        let mut subscription = inbox.subscribe("ann", None).await?;
        for n in 0..3 {
            inbox.push("ann", &n).await?;
            assert_eq!(item(&mut subscription).await, n);
        }
        let keys = ["inbox:notes:{ann}", "inbox:notes:{ann}:state"].map(|name| fixture.client.key(name));
        fixture.client.call::<u64>(Command::new("DEL").keys_from(&keys)).await?;
        inbox.push("ann", &3).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        assert_eq!(item(&mut subscription).await, 3);
        Ok(())
    }

    async fn an_inbox_that_was_lost_between_two_subscriptions_is_a_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        inbox.push("ann", &0).await?;
        let last = inbox.push("ann", &1).await?.id;
        let keys = ["inbox:notes:{ann}", "inbox:notes:{ann}:state"].map(|name| fixture.client.key(name));
        fixture.client.call::<u64>(Command::new("DEL").keys_from(&keys)).await?;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        inbox.push("ann", &2).await?;
        let mut subscription = inbox.subscribe("ann", Some(last)).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        assert_eq!(item(&mut subscription).await, 2);
        Ok(())
    }
}
