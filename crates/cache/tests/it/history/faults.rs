//! What breaks.

use std::time::{Duration, Instant};

use redkit_testkit::{Close, Proxy, Server};
use tokio::time::sleep;

use super::crew::Member;
use super::worker::some_time;

/// One way.
const FAR: Duration = Duration::from_millis(25);

/// What there is to break.
pub(super) struct Faults<'a> {
    pub(super) servers: Vec<&'a Server>,
    /// Each before one worker; none where the servers themselves say where they are.
    pub(super) proxies: Vec<Proxy>,
}

impl Faults<'_> {
    /// Breaks something every now and then, one thing at a time; gives how often.
    pub(super) async fn happen(&self, crew: &mut [Member], lasts: Duration) -> u32 {
        (0..self.proxies.len()).for_each(|at| self.mend_link(at));
        let (end, mut number) = (Instant::now() + lasts, 0);
        while Instant::now() < end {
            sleep(Duration::from_millis(100) + some_time(300)).await;
            let at = rand::random_range(0..crew.len());
            match rand::random_range(0..12) {
                0 => crew[at].replace().await,
                1 => crew[at].pause(some_time(800)).await,
                2..6 if !self.servers.is_empty() => self.break_server().await,
                6..12 if !self.proxies.is_empty() => self.break_link().await,
                6..12 if !self.servers.is_empty() => self.break_server().await,
                _ => continue,
            }
            number += 1;
        }
        number
    }

    async fn break_server(&self) {
        let server = self.servers[rand::random_range(0..self.servers.len())];
        match rand::random_range(0..4) {
            0 => drop(server.kill_clients().await.unwrap()),
            1 => drop(server.kill_subscribers().await.unwrap()),
            2 => {
                for server in &self.servers {
                    server.raw(&["FLUSHALL"]).await.unwrap();
                }
            }
            _ => {
                server.stop().unwrap();
                sleep(some_time(400)).await;
                server.cont().unwrap();
            }
        }
    }

    async fn break_link(&self) {
        let at = rand::random_range(0..self.proxies.len());
        let proxy = &self.proxies[at];
        match rand::random_range(0..3) {
            0 => proxy.sever(Close::Rst),
            1 => {
                proxy.half_open();
                sleep(some_time(1200)).await;
                self.mend_link(at);
            }
            _ => {
                proxy.black_hole();
                sleep(some_time(300)).await;
                self.mend_link(at);
                proxy.sever(Close::Rst);
            }
        }
    }

    /// The first worker is far away: much can happen while it asks.
    fn mend_link(&self, at: usize) {
        match at {
            0 => self.proxies[at].delay(FAR, FAR),
            _ => self.proxies[at].pass(),
        }
    }
}
