//! How the `redis` crate subscribes, and where its pushed frames go.

use std::sync::Arc;

use ::redis::aio::{AsyncPushSender, SendError};
use ::redis::{PushInfo, PushKind};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::convert::push_bytes;
use super::link::{RedisConnector, RedisLink};
use crate::command::Command;
use crate::driver::subscriptions::{Change, Name, NameKind, PushConnector, PushLink, Registry};
use crate::error::{CallError, Fault};
use crate::push::Push;

#[async_trait]
impl PushConnector for RedisConnector {
    type Link = RedisLink;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<RedisLink, Fault> {
        let moved = CancellationToken::new();
        let pushes = Pushes {
            registry: Arc::clone(registry),
            moved: moved.clone(),
        };
        let mut link = self.connect_with(Some(Arc::new(pushes))).await?;
        let closer = link.closer();
        link.keep(async move {
            moved.cancelled().await;
            closer.cancel();
        });
        Ok(link)
    }
}

#[async_trait]
impl PushLink for RedisLink {
    /// One command for each name, so that each has one confirmation.
    async fn change(&self, change: Change, names: &[Name]) -> Result<(), CallError> {
        let commands: Vec<_> = names
            .iter()
            .map(|name| Command::new(change.command(name.kind)).arg(&name.bytes))
            .collect();
        let confirmations = self.send_all(&commands).await?;
        confirmations.into_iter().try_for_each(|one| one.map(drop))
    }
}

/// Where a connection's pushed frames go.
struct Pushes {
    registry: Arc<Registry>,
    /// Cancelled when the server ends a subscription that somebody still listens to: the slot of a
    /// sharded channel has moved to another node, and the connection must follow it.
    moved: CancellationToken,
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        let mut items = push.data.into_iter().map(push_bytes);
        let mut next = || items.next().unwrap_or_default();
        let (kind, pattern) = match push.kind {
            PushKind::Message => (NameKind::Channel, None),
            PushKind::SMessage => (NameKind::Sharded, None),
            PushKind::PMessage => (NameKind::Pattern, Some(next())),
            PushKind::SUnsubscribe => {
                let name = Name {
                    kind: NameKind::Sharded,
                    bytes: next(),
                };
                if self.registry.has(&name) {
                    self.moved.cancel();
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let (channel, payload) = (next(), next());
        let name = Name {
            kind,
            bytes: pattern.clone().unwrap_or_else(|| channel.clone()),
        };
        self.registry.deliver(
            &name,
            &Push::Message {
                channel,
                pattern,
                payload,
            },
        );
        Ok(())
    }
}
