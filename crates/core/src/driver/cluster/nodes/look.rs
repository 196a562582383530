//! Looks: the nodes of a cluster are asked what they see, and how long it is until they are asked again.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Nodes;
use crate::backend::ConnectionState;
use crate::breaker::BreakerState;
use crate::command::Command;
use crate::config::Address;
use crate::driver::cluster::pace::Pace;
use crate::driver::cluster::slots::SlotMap;
use crate::driver::cluster::votes::Votes;
use crate::driver::native::NativeLink;
use crate::driver::supervisor::{Supervisor, is_worth_a_line};
use crate::error::{CallError, Fault, FaultKind};

/// How long to wait for the others once one has answered: a stopped node must not delay the news.
const STRAGGLERS: Duration = Duration::from_millis(50);

/// How often the nodes are asked while nothing is amiss. Servers list a replica only once it has replicated
/// something, so new ones are found this late.
const CALM: Duration = Duration::from_secs(5);

/// The time for a connection that is about to stand.
const ABOUT_TO_STAND: Duration = Duration::from_millis(20);

impl Nodes {
    /// Keeps the view up to date until shutdown. A lazy one begins when somebody asks.
    pub(in crate::driver::cluster) async fn keep_up_to_date(&self, lazy: bool) {
        if lazy {
            self.refresh.notified().await;
        }
        let mut failures = 0_u32;
        let mut pace = Pace::new();
        let mut seeds = Vec::new();
        while !self.closed.is_cancelled() {
            let before = self.view();
            self.watch_seeds(&mut seeds);
            match self.look(self.view_timeout()).await {
                Ok(()) => {
                    failures = 0;
                    self.looks.send_replace(());
                }
                Err(fault) => {
                    failures = failures.saturating_add(1);
                    if is_worth_a_line(failures) {
                        tracing::warn!(
                            target: "redkit::connection",
                            failures, error = %fault, "no view of the cluster"
                        );
                    }
                }
            }
            self.publish();
            let is_troubled = self.in_trouble();
            pace.looked(is_troubled, self.troubled(), *before != *self.view());
            self.wait_for_next_look(&pace, is_troubled, &mut seeds)
                .await;
        }
    }

    /// A look begins. While there is no view, `seeds` tell from here on when it is worth another one.
    fn watch_seeds(&self, seeds: &mut Vec<Seed>) {
        if !self.view.borrow().is_empty() {
            seeds.clear();
        } else if seeds.is_empty() {
            let watched = self.seeds.iter().map(|seed| Seed::new(&self.node(seed)));
            seeds.extend(watched);
        } else {
            seeds.iter_mut().for_each(Seed::begin_look);
        }
    }

    /// Waits until it is time for the next look, which calls that find something amiss make come sooner. Without a view,
    /// one of the `seeds` that has come to serve since the last look began makes it come at once: calls can succeed from
    /// then on.
    async fn wait_for_next_look(&self, pace: &Pace, is_troubled: bool, seeds: &mut [Seed]) {
        if !self.view.borrow().is_empty() {
            return self.wait_until_due(pace, is_troubled).await;
        }
        let mut served: FuturesUnordered<_> = seeds.iter_mut().map(Seed::serves_anew).collect();
        tokio::select! {
            biased;
            () = self.wait_until_due(pace, is_troubled) => {}
            Some(()) = served.next() => {}
        }
    }

    async fn wait_until_due(&self, pace: &Pace, is_troubled: bool) {
        let mut due = Instant::now() + CALM;
        if is_troubled {
            due = pace.next_in_trouble();
        }
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = sleep_until(due) => return,
                () = self.refresh.notified() => due = due.min(pace.next_in_trouble()),
                () = self.moved.notified() => due = due.min(pace.next_after_a_move()),
            }
        }
    }

    /// Asks the nodes what they see, and takes over what most of them say.
    pub(in crate::driver::cluster) async fn look(&self, limit: Duration) -> Result<(), Fault> {
        let mut asked = self.view.borrow().all();
        for seed in &self.seeds {
            if !asked.contains(seed) {
                asked.push(seed.clone());
            }
        }
        let mut answers: FuturesUnordered<_> =
            asked.iter().map(|address| self.view_of(address)).collect();
        let mut votes = Votes::default();
        let mut refusal: Option<Fault> = None;
        let mut deadline = Instant::now() + limit;
        // Nodes that do not answer in time do not vote.
        while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
            match answer {
                Ok(map) => {
                    if votes.add(map) * 2 > asked.len() {
                        break;
                    }
                    deadline = deadline.min(Instant::now() + STRAGGLERS);
                }
                // Wrong credentials say more than that another node is down.
                Err(fault) if refusal.is_none() || fault.kind() == FaultKind::Handshake => {
                    refusal = Some(fault);
                }
                Err(_) => {}
            }
        }
        drop(answers);
        match votes.winner() {
            Some(map) => {
                self.take_over(map);
                Ok(())
            }
            None => Err(refusal.unwrap_or_else(|| {
                Fault::new(FaultKind::Connect, "no node of the cluster answered")
            })),
        }
    }

    async fn view_of(&self, address: &Address) -> Result<SlotMap, Fault> {
        let node = self.node(address);
        if node.current().is_none() {
            // Not longer than one attempt takes: who cannot be reached has no say.
            node.first_attempt().await?;
        }
        let deadline = Instant::now() + ABOUT_TO_STAND;
        let link = node.link(deadline).await.map_err(into_fault)?;
        let slots = Command::new("CLUSTER").arg("SLOTS");
        let reply = link.send(&slots).await.map_err(into_fault)?;
        SlotMap::parse(reply, address)
            .ok_or_else(|| Fault::new(FaultKind::Protocol, "CLUSTER SLOTS has another shape"))
    }
}

/// A node that was configured, watched while there is no view.
struct Seed {
    state: watch::Receiver<ConnectionState>,
    breaker: watch::Receiver<BreakerState>,
    /// The number of the last connection for which there was a look.
    looked_on: u64,
}

impl Seed {
    fn new(node: &Supervisor<NativeLink>) -> Self {
        let mut seed = Self {
            state: node.state(),
            breaker: node.breaker_events(),
            looked_on: 0,
        };
        seed.begin_look();
        seed
    }

    /// A look begins, which finds the seed as it is: the connection and the breaker of now are no news after it.
    fn begin_look(&mut self) {
        self.breaker.mark_unchanged();
        if let ConnectionState::Connected(number) = *self.state.borrow_and_update() {
            self.looked_on = number;
        }
    }

    /// Waits until the seed has a connection for which there was no look yet, or its breaker closes. That the connection
    /// is [`Connected`](ConnectionState::Connected) again is no news: a server that loads its data is asked twenty times
    /// a second whether it serves, and each refusal is a sign of life. Its breaker closes once it serves.
    async fn serves_anew(&mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.state.changed() => match *self.state.borrow_and_update() {
                    ConnectionState::Connected(number) if number != self.looked_on => {
                        self.looked_on = number;
                        return;
                    }
                    _ => {}
                },
                Ok(()) = self.breaker.changed() => {
                    let is_closed = *self.breaker.borrow_and_update() == BreakerState::Closed;
                    if is_closed && self.state.borrow().is_connected() {
                        return;
                    }
                }
                else => return std::future::pending().await,
            }
        }
    }
}

fn into_fault(error: CallError) -> Fault {
    match error {
        CallError::NotSent(fault) | CallError::Maybe(fault) => fault,
        CallError::Replied(error) => {
            let fix = if error.message().contains("cluster support disabled") {
                "the server is no cluster node: write redis:// instead of redis-cluster://"
            } else {
                "the user needs the right to `CLUSTER SLOTS`"
            };
            Fault::new(FaultKind::Handshake, format!("{error}; {fix}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::breaker::Breaker;
    use crate::driver::cluster::nodes::MISSING;
    use crate::driver::cluster::nodes::tests::{address, nodes};

    type Answer = Arc<dyn Fn(&str) -> &'static str + Send + Sync>;

    /// A server that says nothing for a while, and then gives these answers.
    async fn answer_after(silence: Duration, listener: TcpListener, answer: Answer) {
        let mut connections = Vec::new();
        let end = Instant::now() + silence;
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            connections.push(AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(end).await;
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let commands = String::from_utf8_lossy(&bytes[..count]);
                    let replies: String = commands.split('*').skip(1).map(&*answer).collect();
                    stream.write_all(replies.as_bytes()).await.unwrap();
                }
            })));
        }
    }

    #[tokio::test]
    async fn without_a_view_a_seed_that_can_be_reached_makes_the_next_look_come_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seed = address(listener.local_addr().unwrap().port());
        let nodes = nodes(vec![seed]);
        let silence = Duration::from_millis(200);
        let server = answer_after(silence, listener, Arc::new(|_| "+OK\r\n"));
        let _server = AbortOnDropHandle::new(tokio::spawn(server));
        let mut seeds = Vec::new();
        nodes.watch_seeds(&mut seeds);
        let start = Instant::now();
        // Nothing else makes the look come.
        nodes
            .wait_for_next_look(&Pace::new(), false, &mut seeds)
            .await;
        let waited = start.elapsed();
        assert!(silence <= waited && waited < CALM, "{waited:?}");
        // The seed is no news a second time, nor for a client that begins to look now.
        let mut again = Vec::new();
        for seeds in [&mut seeds, &mut again] {
            nodes.watch_seeds(seeds);
            let pace = Pace::new();
            let next = nodes.wait_for_next_look(&pace, false, seeds);
            assert!(next.now_or_never().is_none());
        }
    }

    /// A server that loads its data, and the breaker of a client that could not reach it for long.
    struct Loading {
        address: Address,
        is_loading: Arc<AtomicBool>,
        /// How often it was asked for its view.
        questions: Arc<AtomicUsize>,
        _server: AbortOnDropHandle<()>,
    }

    impl Loading {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = address(listener.local_addr().unwrap().port());
            let is_loading = Arc::new(AtomicBool::new(true));
            let questions = Arc::new(AtomicUsize::new(0));
            let (loads, asked) = (Arc::clone(&is_loading), Arc::clone(&questions));
            let answer = move |command: &str| {
                let is_question = command.contains("SLOTS");
                if is_question {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                match is_question || command.contains("PING") {
                    true if loads.load(Ordering::SeqCst) => "-LOADING wait\r\n",
                    _ => "+OK\r\n",
                }
            };
            let server = answer_after(Duration::ZERO, listener, Arc::new(answer));
            Self {
                address,
                is_loading,
                questions,
                _server: AbortOnDropHandle::new(tokio::spawn(server)),
            }
        }

        fn breaker(&self, nodes: &Nodes) -> Breaker {
            nodes.breakers.node(&self.address.to_string())
        }
    }

    #[tokio::test]
    async fn without_a_view_seeds_that_load_their_data_are_not_flooded_with_questions() {
        let servers = [Loading::start().await, Loading::start().await];
        let seeds = servers.iter().map(|server| server.address.clone());
        let nodes = Arc::new(nodes(seeds.collect()));
        for server in &servers {
            server.breaker(&nodes).suspend();
        }
        let looking = Arc::clone(&nodes);
        let _task = AbortOnDropHandle::new(tokio::spawn(async move {
            looking.keep_up_to_date(false).await;
        }));
        sleep(Duration::from_secs(4)).await;
        for server in &servers {
            let questions = server.questions.load(Ordering::SeqCst);
            assert!((4..=20).contains(&questions), "{questions} in 4 s");
            assert!(server.breaker(&nodes).awaits_answer());
        }
    }

    #[tokio::test]
    async fn without_a_view_a_seed_that_has_loaded_its_data_makes_the_next_look_come_at_once() {
        let server = Loading::start().await;
        let nodes = nodes(vec![server.address.clone()]);
        server.breaker(&nodes).suspend();
        let (pace, mut seeds) = (Pace::new(), Vec::new());
        nodes.watch_seeds(&mut seeds);
        nodes.wait_for_next_look(&pace, false, &mut seeds).await;
        nodes.watch_seeds(&mut seeds);
        let mut next = std::pin::pin!(nodes.wait_for_next_look(&pace, false, &mut seeds));
        let loading = timeout(Duration::from_millis(500), &mut next).await;
        assert!(loading.is_err(), "it refuses everything");
        server.is_loading.store(false, Ordering::SeqCst);
        // Nothing else makes the look come.
        let served = timeout(CALM / 2, next).await;
        assert!(served.is_ok(), "it serves");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_has_moved_makes_the_next_look_come_within_a_second_and_a_doubt_sooner() {
        let nodes = nodes(Vec::new());
        let mut pace = Pace::new();
        pace.looked(false, HashSet::new(), true);
        let start = Instant::now();
        for slot in 0..200 {
            nodes.moved(slot, &address(1), &address(2));
        }
        nodes.wait_until_due(&pace, false).await;
        assert_eq!(start.elapsed().as_secs(), 1);

        pace.looked(false, HashSet::new(), true);
        let start = Instant::now();
        nodes.doubt();
        nodes.wait_until_due(&pace, false).await;
        assert!(start.elapsed() <= Duration::from_millis(100));
    }

    /// A view of these masters.
    fn view(ports: &[u16]) -> SlotMap {
        let mut map = SlotMap::empty();
        for (slot, port) in (0..).zip(ports) {
            map.set_owner(slot, &address(*port));
        }
        map
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_the_views_lack_for_a_moment_has_not_left() {
        let nodes = nodes(Vec::new());
        nodes.take_over(view(&[1, 2]));
        let mut left = std::pin::pin!(nodes.left(address(1)));
        for _ in 0..3 {
            nodes.take_over(view(&[2]));
            assert!(left.as_mut().now_or_never().is_none());
            sleep(MISSING / 2).await;
            assert!(left.as_mut().now_or_never().is_none());
            nodes.looks.send_replace(());
            assert!(left.as_mut().now_or_never().is_none(), "it comes back");
            nodes.take_over(view(&[1, 2]));
            assert!(left.as_mut().now_or_never().is_none());
        }
        nodes.take_over(view(&[2]));
        assert!(left.as_mut().now_or_never().is_none());
        sleep(MISSING + Duration::from_millis(1)).await;
        assert!(left.as_mut().now_or_never().is_none(), "nobody has looked");
        nodes.looks.send_replace(());
        assert!(left.as_mut().now_or_never().is_some());
    }

    /// No node answers, so that what the last view lacks may be there.
    #[tokio::test(start_paused = true)]
    async fn looks_that_fail_do_not_show_that_a_node_has_left() {
        let nodes = Arc::new(nodes(vec![address(1)]));
        nodes.take_over(view(&[1, 2]));
        let left = nodes.left(address(1));
        nodes.take_over(view(&[2]));
        let looking = Arc::clone(&nodes);
        let _task = AbortOnDropHandle::new(tokio::spawn(async move {
            looking.keep_up_to_date(false).await;
        }));
        let end = timeout(Duration::from_secs(60), left).await;
        assert!(end.is_err(), "it has left");
    }
}
