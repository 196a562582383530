//! How the `redis` crate subscribes, and where its pushed frames go.

use std::sync::Arc;

use ::redis::aio::{AsyncPushSender, SendError};
use ::redis::{PushInfo, PushKind};
use async_trait::async_trait;

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
        let registry: Arc<dyn AsyncPushSender> = Arc::clone(registry) as _;
        self.connect_with(Some(registry)).await
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

impl AsyncPushSender for Registry {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        let mut items = push.data.into_iter().map(push_bytes);
        let mut next = || items.next().unwrap_or_default();
        let (kind, pattern) = match push.kind {
            PushKind::Message => (NameKind::Channel, None),
            PushKind::SMessage => (NameKind::Sharded, None),
            PushKind::PMessage => (NameKind::Pattern, Some(next())),
            _ => return Ok(()),
        };
        let (channel, payload) = (next(), next());
        let name = Name {
            kind,
            bytes: pattern.clone().unwrap_or_else(|| channel.clone()),
        };
        self.deliver(
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
