//! [`View`]: what the nodes say about the cluster.

use std::ops::RangeInclusive;

/// A node, as some node describes it in `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) port: u16,
    /// Its master's id, if it is a replica.
    pub(super) master: Option<String>,
    pub(super) slots: Vec<RangeInclusive<u16>>,
    epoch: u64,
    flags: Vec<String>,
}

impl Member {
    /// Nothing from a line that is none of `CLUSTER NODES`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut next = || words.next();
        let (id, addr, flags, master) = (next()?, next()?, next()?, next()?);
        let (_ping, _pong, epoch, _link) = (next()?, next()?, next()?, next()?);
        let (_, port) = addr.split('@').next()?.rsplit_once(':')?;
        Some(Self {
            id: id.to_owned(),
            port: port.parse().ok()?,
            master: (master != "-").then(|| master.to_owned()),
            // A slot in migration is told a second time, as `[7->-id]`.
            slots: words.filter_map(slots).collect(),
            epoch: epoch.parse().ok()?,
            flags: flags.split(',').map(str::to_owned).collect(),
        })
    }

    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

fn slots(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// What one node says, or what several together say.
#[derive(Debug)]
pub(super) struct View(pub(super) Vec<Member>);

impl View {
    /// From the reply to `CLUSTER NODES`.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Member::parse).collect())
    }

    /// What several nodes together say: each knows itself best, and of a node that is not asked
    /// the highest epoch is true.
    pub(super) fn merge(views: Vec<View>) -> Self {
        let mut merged: Vec<Member> = Vec::new();
        for member in views.into_iter().flat_map(|view| view.0) {
            let worth = |member: &Member| (member.is("myself"), member.epoch);
            match merged.iter_mut().find(|known| known.id == member.id) {
                Some(known) if worth(known) >= worth(&member) => {}
                Some(known) => *known = member,
                None => merged.push(member),
            }
        }
        Self(merged)
    }

    /// The node of this port.
    pub(super) fn member(&self, port: u16) -> Option<&Member> {
        self.0.iter().find(|member| member.port == port)
    }

    /// The master with this slot: of several that claim it, the one with the highest epoch.
    pub(super) fn owner(&self, slot: u16) -> Option<&Member> {
        self.0
            .iter()
            .filter(|member| member.master.is_none() && member.has(slot))
            .max_by_key(|member| member.epoch)
    }

    /// The masters: those that own a slot which they claim, and those that claim none. One that
    /// failed and was replaced claims none, and is not a master any more.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|member| {
            let mut first_slots = member.slots.iter().map(|range| *range.start());
            let owns = |slot| self.owner(slot).is_some_and(|owner| owner.id == member.id);
            let is_spare = member.slots.is_empty() && !member.is("fail");
            member.is("master") && (is_spare || first_slots.any(owns))
        })
    }

    /// Who has which role and slots, of the nodes with these ports: equal in views that agree.
    /// Says what is still in doubt.
    pub(super) fn settled(&self, ports: &[u16]) -> Result<Vec<Role<'_>>, String> {
        let mut roles = Vec::new();
        for &port in ports {
            let Some(member) = self.member(port) else {
                return Err(format!("the node at {port} is not known to all"));
            };
            let doubts = ["fail", "fail?", "handshake", "noaddr"];
            if let Some(doubt) = doubts.iter().find(|flag| member.is(flag)) {
                return Err(format!("the node at {port} is flagged `{doubt}`"));
            }
            roles.push((port, member.master.as_deref(), member.slots.as_slice()));
        }
        Ok(roles)
    }
}

/// A node's port, its master if it is a replica, its slots.
pub(super) type Role<'a> = (u16, Option<&'a str>, &'a [RangeInclusive<u16>]);

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a 127.0.0.1:1@11 myself,master - 0 0 1 connected 0-99 200 [7->-b]";
    const A_FAILED: &str = "a 127.0.0.1:1@11,host master,fail - 0 0 1 disconnected 0-99 200";
    const B: &str = "b 127.0.0.1:2@12 myself,slave a 0 0 1 connected";
    const B_PROMOTED: &str = "b 127.0.0.1:2@12 myself,master - 0 0 7 connected 0-99 200";
    const C: &str = "c 127.0.0.1:3@13,,shard-id=x master - 0 0 3 connected";

    fn ports<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<u16> {
        members.map(|member| member.port).collect()
    }

    #[test]
    fn a_nodes_line_is_read() {
        let view = View::parse(&format!("{A}\n{B}\nrubbish\n{C}\n"));
        assert_eq!(ports(view.0.iter()), [1, 2, 3]);
        assert_eq!(view.member(1).unwrap().slots, [0..=99, 200..=200]);
        assert_eq!(view.member(2).unwrap().master.as_deref(), Some("a"));
        assert_eq!(ports(view.masters()), [1, 3]);
        assert_eq!(view.owner(200).unwrap().port, 1);
        assert!(view.owner(100).is_none());
    }

    #[test]
    fn after_a_failover_the_promoted_one_is_believed_over_those_that_have_not_heard() {
        let stale = || View::parse(&format!("{A}\n{B}"));
        let fresh = || View::parse(&format!("{A_FAILED}\n{B_PROMOTED}"));
        for views in [vec![stale(), fresh()], vec![fresh(), stale()]] {
            let view = View::merge(views);
            assert_eq!(view.owner(50).unwrap().port, 2);
            assert_eq!(ports(view.masters()), [2]);
        }
        let told = "a 127.0.0.1:1@11 master,fail - 0 0 1 disconnected";
        let view = View::parse(&format!("{told}\n{B_PROMOTED}"));
        assert_eq!(ports(view.masters()), [2]);
        assert!(stale().settled(&[1, 2]).is_ok());
        assert!(fresh().settled(&[2]).is_ok());
        assert!(fresh().settled(&[1, 2]).unwrap_err().contains("fail"));
        assert!(fresh().settled(&[2, 3]).unwrap_err().contains("not known"));
    }
}
