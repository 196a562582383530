//! How groups come to be: ahead of their workers, when a worker starts, later when the server was away then, and anew when the server has
//! lost them.

use redkit_core::coordination::Token;
use redkit_core::{Command, Error as CoreError};

use super::run::{HeldSeat, Shared};
use super::{Gap, GapReason, Settings};
use crate::channel::read;
use crate::error::Error;
use crate::topic::Inner;
use crate::topic::keys::Partition;
use crate::topic::scripts::{self, GroupToMake, Made, MadeGroup};

/// A group that is to be made, until the server has answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// The same in all repetitions: a call whose reply was lost may have made it.
    token: Token,
    /// Where it begins when it is new.
    begin: &'static str,
    /// The worker had seen the group before.
    is_anew: bool,
    /// The last answer was that it is a group of the other kind, and that was told.
    is_clash: bool,
}

impl Making {
    /// A group that the worker has not seen yet.
    pub(super) fn first(settings: &Settings) -> Self {
        Self {
            token: Token::random(),
            begin: if settings.from_now { "$" } else { "0" },
            is_anew: false,
            is_clash: false,
        }
    }

    /// A group that was there.
    fn anew() -> Self {
        Self {
            token: Token::random(),
            begin: "0",
            is_anew: true,
            is_clash: false,
        }
    }

    /// Asks the server. `None` for a group of the other kind.
    async fn ask(
        &self,
        client: &redkit_core::Client,
        partition: &Partition,
        group: &str,
        mode: &str,
    ) -> Result<Option<Made>, CoreError> {
        let to_make = GroupToMake {
            group,
            begin: self.begin,
            mode,
            token: self.token,
            leaves_lost: false,
        };
        let group: MadeGroup = client.eval(scripts::group(partition, &to_make)).await?;
        Ok((group.mode == mode).then_some(group.made))
    }
}

/// How [`ConsumerBuilder::create_group`](super::ConsumerBuilder::create_group) left a group: by the numbers of partitions, in their
/// order. In a partition that neither list names the group was there before, and is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CreatedGroup {
    /// Where this call made the group: it had not been there, as far as the server knows.
    pub new: Vec<u32>,
    /// Where the server has lost the group. Until a worker of the group starts, nothing that other groups are done with is kept for
    /// it there; the worker makes it anew and is told of [the gap](super::ConsumerBuilder::on_gap).
    pub lost: Vec<u32>,
}

impl CreatedGroup {
    /// Whether the group was new in some partition.
    pub fn is_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Whether the server has lost the group in some partition.
    pub fn is_lost(&self) -> bool {
        !self.lost.is_empty()
    }
}

/// Makes a group ahead of its workers, where it is new, in two round trips. The first looks whether the group is of the other kind
/// in any partition: then it must not be made in the partitions that do not know it.
pub(super) async fn create(
    topic: &Inner,
    group: &str,
    settings: &Settings,
) -> Result<CreatedGroup, Error> {
    let clash = || Error::GroupClash {
        group: group.into(),
    };
    let looks = topic.partitions.iter().map(|partition| {
        let look = Command::new("HGET").key(&partition.state);
        look.arg(format!("mode:{group}")).from_master()
    });
    for mode in topic.client.pipeline(looks.collect()).await? {
        let mode: Option<String> = read("HGET", mode)?;
        if mode.is_some_and(|mode| mode != settings.mode()) {
            return Err(clash());
        }
    }
    let Making { token, begin, .. } = Making::first(settings);
    let to_make = GroupToMake {
        group,
        begin,
        mode: settings.mode(),
        token,
        leaves_lost: true,
    };
    let calls = topic.partitions.iter();
    let calls = calls.map(|partition| scripts::group(partition, &to_make));
    let replies = topic.client.eval_all(calls).await?;
    let mut created = CreatedGroup::default();
    for (partition, reply) in topic.partitions.iter().zip(replies) {
        let group: MadeGroup = read("EVALSHA", reply)?;
        if group.mode != settings.mode() {
            return Err(clash());
        }
        match group.made {
            Made::New => created.new.push(partition.number),
            Made::LeftLost => created.lost.push(partition.number),
            Made::No | Made::Anew => {}
        }
    }
    Ok(created)
}

/// What became of a group when its worker started.
pub(super) enum Start {
    Made(Made),
    /// The server is away: the worker makes the group when it is back.
    Later(Making),
}

/// Makes a group as its worker starts.
///
/// # Errors
/// For a group of the other kind, and for a server that can be reached and refuses: neither goes away by itself.
pub(super) async fn start(
    client: &redkit_core::Client,
    partition: &Partition,
    group: &str,
    settings: &Settings,
) -> Result<Start, Error> {
    let making = Making::first(settings);
    match making.ask(client, partition, group, settings.mode()).await {
        Ok(Some(made)) => Ok(Start::Made(made)),
        Ok(None) => Err(Error::GroupClash {
            group: group.into(),
        }),
        Err(error) if error.is_retryable() || error.is_maybe() => {
            tracing::warn!(target: "redkit::pubsub", %group, %error, "a consumer waits for the server");
            Ok(Start::Later(making))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a group of which the server has not answered yet. Gives whether the worker may read.
pub(super) async fn make_missing<T, H>(shared: &Shared<T, H>, seat: &HeldSeat) -> bool {
    let making = *seat.making.lock();
    match making {
        Some(making) => make(shared, seat, making).await,
        None => true,
    }
}

/// The server has lost the group: one of its workers makes it anew, from the beginning of what the stream
/// holds, and tells of a gap.
pub(super) async fn remake<T, H>(shared: &Shared<T, H>, seat: &HeldSeat) -> bool {
    let making = *seat.making.lock().get_or_insert_with(Making::anew);
    make(shared, seat, making).await
}

async fn make<T, H>(shared: &Shared<T, H>, seat: &HeldSeat, mut making: Making) -> bool {
    let of = &seat.seat;
    let mode = shared.settings.mode();
    let asked = making.ask(&shared.client, &of.partition, &of.group, mode);
    match asked.await {
        Ok(Some(made)) => {
            *seat.making.lock() = None;
            // A group that this worker had seen was lost, whatever the server knows of it.
            if made == Made::Anew || (made == Made::New && making.is_anew) {
                tell_of_gap(shared, seat);
            }
            true
        }
        Ok(None) => {
            if !std::mem::replace(&mut making.is_clash, true) {
                *seat.making.lock() = Some(making);
                tracing::error!(
                    target: "redkit::pubsub", topic = &*shared.topic.name, group = &*of.group,
                    "the group is consumed in the other way, ordered or not: this worker waits"
                );
            }
            false
        }
        Err(error) => {
            tracing::debug!(target: "redkit::pubsub", %error, "a group cannot be made");
            false
        }
    }
}

pub(super) fn tell_of_gap<T, H>(shared: &Shared<T, H>, seat: &HeldSeat) {
    let partition = seat.seat.partition.number;
    shared.metrics.gaps.increment(1);
    tracing::warn!(
        target: "redkit::pubsub", topic = &*shared.topic.name, group = &*seat.seat.group, partition,
        "the server had lost the group; it was made anew from the beginning of the stream"
    );
    if let Some(on_gap) = &shared.settings.on_gap {
        on_gap(Gap {
            partition,
            reason: GapReason::GroupLost,
        });
    }
}
