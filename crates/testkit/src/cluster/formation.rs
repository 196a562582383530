//! Making servers into a cluster.

use super::view::View;
use crate::admin::{PATIENCE, ask, ask_text, wait_until};
use crate::{Error, Server};

/// The number of slots of a cluster.
const SLOTS: usize = 16_384;

/// Gives the first `masters` nodes equal shares of the slots, introduces all nodes to one another,
/// and makes the rest replicas in turn.
pub(super) async fn form(nodes: &[Server], masters: usize) -> Result<(), Error> {
    for (at, node) in nodes.iter().enumerate() {
        // Distinct from the start, or the nodes would first have to settle a conflict.
        let epoch = (at + 1).to_string();
        ask(node, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
    }
    for (at, node) in nodes.iter().take(masters).enumerate() {
        let first = (SLOTS * at / masters).to_string();
        let last = (SLOTS * (at + 1) / masters - 1).to_string();
        ask(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
    }
    introduce(nodes).await?;
    for (at, replica) in nodes.iter().enumerate().skip(masters) {
        if let Some(master) = nodes.get(at % masters) {
            let id = ask_text(master, &["CLUSTER", "MYID"]).await?;
            ask(replica, &["CLUSTER", "REPLICATE", &id]).await?;
        }
    }
    Ok(())
}

/// Each node meets each; gossip would get there too, and take longer. On a busy machine a
/// handshake can time out, and is begun anew.
async fn introduce(nodes: &[Server]) -> Result<(), Error> {
    let mut rounds = 0;
    wait_until("all nodes knowing one another", PATIENCE, async || {
        for (at, node) in nodes.iter().enumerate().filter(|_| rounds % 300 == 0) {
            for other in nodes.iter().skip(at + 1) {
                let port = other.addr().port().to_string();
                let bus = other.bus_port().unwrap_or_default().to_string();
                ask(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
            }
        }
        rounds += 1;
        let ports: Vec<_> = nodes.iter().map(|node| node.addr().port()).collect();
        for node in nodes {
            let view = View::parse(&ask_text(node, &["CLUSTER", "NODES"]).await?);
            if let Err(doubt) = view.settled(&ports) {
                return Ok(Err(doubt));
            }
        }
        Ok(Ok(()))
    })
    .await
}
