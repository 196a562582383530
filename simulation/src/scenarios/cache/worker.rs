//! [`Worker`]: a process that reads and writes through its cache in every way, and notes what it sees.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_cache::{Cache, Error, Loaded};
use redkit_core::{Client, Command};
use redkit_testkit::simulation::checkers::Freshness;
use redkit_testkit::simulation::{Process, ProcessId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::settings::Settings;
use super::source::{
    SHARED, Source, always_there, found, is_gone, kept, keys_tagged_as, may_be_gone, name,
    some_time, tag,
};

/// For longer than a write can be under way after its caller has given it up.
const AFTERMATH: Duration = Duration::from_secs(8);

/// Another program, of which every process hears as of the other processes.
const STRANGER: ProcessId = ProcessId(u32::MAX);

/// How many tasks of a process read.
const READERS: usize = 3;

/// The processes that meet do so this often.
const MEETING: Duration = Duration::from_millis(80);

pub(super) struct Worker {
    process: Process,
    client: Client,
    settings: Settings,
    cache: Cache<u64>,
    source: Source,
    seen: Arc<Mutex<Freshness>>,
    /// The key that no other process writes.
    own: usize,
    /// Nothing is promised of the own key before.
    settled: Mutex<Instant>,
    /// For how long the value before a change is served of which no cache is told; `None` when that is not checked.
    longest: Option<Duration>,
}

impl Worker {
    pub(super) fn new(
        process: Process,
        settings: Settings,
        source: Source,
        seen: Arc<Mutex<Freshness>>,
        longest: Option<Duration>,
    ) -> Arc<Self> {
        let aftermath = match process.incarnation() {
            0 => Duration::ZERO,
            // Its predecessor may have left a write under way.
            _ => AFTERMATH,
        };
        let client = process.client();
        Arc::new(Self {
            cache: settings.cache(&client),
            client,
            settings,
            own: SHARED + process.id().index(),
            process,
            source,
            seen,
            settled: Mutex::new(Instant::now() + aftermath),
            longest,
        })
    }

    /// Does so many operations, an eighth of which are writes.
    pub(super) async fn work(self: &Arc<Self>, operations: usize) {
        let writes = operations / 8;
        let mut tasks = JoinSet::new();
        for reader in 0..READERS {
            let worker = Arc::clone(self);
            let reads = (operations - writes + reader) / READERS;
            tasks.spawn(async move {
                for _ in 0..reads {
                    match worker.settings.meets && worker.process.chance(0.3) {
                        true => worker.read_together().await,
                        false => worker.read().await,
                    }
                    some_time(&worker.process, worker.settings.pause).await;
                }
            });
        }
        let worker = Arc::clone(self);
        tasks.spawn(async move {
            let mut key = 0;
            for _ in 0..writes {
                let written = if worker.settings.meets && worker.process.chance(0.7) {
                    worker.write_together().await
                } else {
                    // What is changed twice at once can be read in between.
                    if worker.process.chance(0.5) {
                        key = worker.process.random_range(0..SHARED);
                    }
                    let choice = worker.process.random_range(0..17);
                    worker.write(key, choice).await
                };
                if let Err(error) = written {
                    if let Error::Core(error) = &error {
                        worker.process.fails("tell the cache", error);
                    }
                    worker.process.note(|| format!("is not told: {error}"));
                }
                let pause = if worker.process.chance(0.5) { 10 } else { 300 };
                some_time(&worker.process, pause).await;
            }
        });
        while tasks.join_next().await.is_some() {}
    }

    /// Waits for the next moment at which the processes meet. Gives the key that all of them turn to then.
    async fn meet(&self) -> usize {
        let now = self.process.now();
        let number = now.as_nanos() / MEETING.as_nanos() + 1;
        let number = u32::try_from(number).unwrap_or_default();
        sleep((MEETING * number).saturating_sub(now)).await;
        some_time(&self.process, 3).await;
        usize::try_from(number).unwrap_or_default() % SHARED
    }

    async fn read_together(self: &Arc<Self>) {
        let key = self.meet().await;
        some_time(&self.process, 5).await;
        match may_be_gone(key) {
            true => self.find_or_load(key).await,
            false => self.get_or_load(key).await,
        }
    }

    /// Most of the writes that meet write through, and several invalidate the same tag.
    async fn write_together(self: &Arc<Self>) -> Result<(), Error> {
        const CHOICES: [u32; 6] = [INVALIDATE, BY_TAG, BY_TAG, THROUGH, THROUGH, THROUGH];
        let key = self.meet().await;
        let choice = CHOICES[self.process.random_range(0..CHOICES.len())];
        self.write(key, choice).await
    }

    fn some_key(&self) -> usize {
        self.process.random_range(0..self.source.keys())
    }

    async fn read(self: &Arc<Self>) {
        match self.process.random_range(0..8) {
            0 => self.get(self.some_key()).await,
            1 => self.get_many().await,
            _ => match self.some_key() {
                key if may_be_gone(key) => self.find_or_load(key).await,
                key => self.get_or_load(key).await,
            },
        }
    }

    async fn get(&self, key: usize) {
        let began = self.process.now();
        let got = self.cache.get(name(key)).await;
        self.is_served(&got);
        if let Ok(Some(got)) = got {
            self.process.reached(got.source().as_str());
            self.saw("gets", key, *got, began);
        }
    }

    async fn get_or_load(self: &Arc<Self>, key: usize) {
        let began = self.process.now();
        let worker = Arc::clone(self);
        let load = move || async move {
            let numbers = worker.source.read(&worker.process, &[key]).await?;
            Ok::<_, io::Error>(kept(key, first(&numbers)))
        };
        let got = self.cache.get_or_load(name(key), load).await;
        self.is_served(&got);
        if let Ok(got) = got {
            self.process.reached(got.source().as_str());
            let how = format!("gets, {},", got.source());
            self.saw(&how, key, *got, began);
        }
    }

    async fn find_or_load(self: &Arc<Self>, key: usize) {
        let began = self.process.now();
        let worker = Arc::clone(self);
        let load = move || async move {
            let numbers = worker.source.read(&worker.process, &[key]).await?;
            Ok::<_, io::Error>(found(key, first(&numbers)))
        };
        let got = self.cache.find_or_load(name(key), load).await;
        self.is_served(&got);
        match got {
            Ok(Some(got)) => {
                self.process.reached(got.source().as_str());
                let how = format!("finds, {},", got.source());
                self.saw(&how, key, *got, began);
            }
            Ok(None) => self.saw_none(key, began),
            Err(_) => {}
        }
    }

    async fn get_many(self: &Arc<Self>) {
        let began = self.process.now();
        let keys = [self.some_key(), self.some_key(), self.some_key()];
        let worker = Arc::clone(self);
        let load = move |keys: Vec<String>| {
            let worker = Arc::clone(&worker);
            async move { worker.load_many(keys).await }
        };
        let all = self.cache.get_many_or_load(keys.map(name), load).await;
        for (key, got) in keys.into_iter().zip(all) {
            self.is_served(&got);
            match got {
                Ok(Some(got)) => {
                    self.process.reached("got one of many");
                    let how = format!("gets of many, {},", got.source());
                    self.saw(&how, key, *got, began);
                }
                Ok(None) => self.saw_none(key, began),
                Err(_) => {}
            }
        }
    }

    async fn load_many(&self, names: Vec<String>) -> io::Result<HashMap<String, Loaded<u64>>> {
        let keys = (0..self.source.keys()).filter(|key| names.contains(&name(*key)));
        let keys: Vec<usize> = keys.collect();
        let numbers = self.source.read(&self.process, &keys).await?;
        let there = keys.into_iter().zip(numbers);
        let there = there.filter(|(key, number)| !(may_be_gone(*key) && is_gone(*number)));
        Ok(there
            .map(|(key, number)| (name(key), kept(key, number)))
            .collect())
    }

    /// Changes the source and then tells the cache. Only what is acknowledged is noted.
    async fn write(self: &Arc<Self>, key: usize, choice: u32) -> Result<(), Error> {
        match choice {
            INVALIDATE..BY_TAG => {
                let number = self.source.raise(key);
                self.told(&[(key, number)], "invalidate");
                self.cache.invalidate(name(key)).await?;
                self.changed("invalidated", &[(key, number)]);
            }
            BY_TAG..THROUGH => {
                let raised = keys_tagged_as(key).map(|key| (key, self.source.raise(key)));
                let raised: Vec<_> = raised.collect();
                self.told(&raised, "invalidate by tag");
                self.cache.invalidate_tag(&tag(key)).await?;
                self.changed("invalidated by tag", &raised);
            }
            THROUGH..10 => self.write_through(always_there(key)).await?,
            10 => {
                let raised: Vec<_> = (0..SHARED)
                    .map(|key| (key, self.source.raise(key)))
                    .collect();
                self.told(&raised, "clear");
                self.cache.clear().await?;
                self.changed("cleared", &raised);
            }
            15.. if self.settings.is_tracked && self.process.chance(0.7) => {
                self.write_past_the_cache(key).await?;
            }
            15.. => self.write_in_silence(),
            choice if Instant::now() >= *self.settled.lock() => {
                self.write_own(choice == 11).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn write_through(self: &Arc<Self>, key: usize) -> Result<(), Error> {
        let worker = Arc::clone(self);
        let write = move || async move {
            some_time(&worker.process, 2).await;
            let number = worker.source.raise(key);
            worker.told(&[(key, number)], "write through");
            some_time(&worker.process, 2).await;
            Ok::<_, io::Error>(kept(key, number))
        };
        let written = self.cache.write_through(name(key), write).await?;
        self.changed("written through", &[(key, *written)]);
        Ok(())
    }

    async fn write_own(&self, invalidates: bool) -> Result<(), Error> {
        let (key, number) = (self.own, self.source.raise(self.own));
        self.told(
            &[(key, number)],
            if invalidates { "invalidate" } else { "set" },
        );
        let result = match invalidates {
            true => self.cache.invalidate(name(key)).await.map(drop),
            false => {
                let set = self.cache.set_with(name(key), kept(key, number));
                set.await.map(drop)
            }
        };
        if result.is_err() {
            // It may yet be carried out, after others that are acknowledged.
            *self.settled.lock() = Instant::now() + AFTERMATH;
        }
        result?;
        self.changed("set", &[(key, number)]);
        Ok(())
    }

    /// Changes keys of the cache as another program would, which announces nothing: with the entry goes the right of the
    /// load under way to write it. Where the servers tell of every changed key all processes hear of it.
    async fn write_past_the_cache(&self, key: usize) -> Result<(), Error> {
        let entries = self.client.keyspace("cache", "numbers")?;
        let number = self.source.raise(key);
        self.told(&[(key, number)], "delete the entry");
        let unlink = Command::new("UNLINK")
            .key(entries.key(name(key)))
            .key(entries.role_key(name(key), "lease"))
            .idempotent(true);
        self.client.call::<i64>(unlink).await?;
        // The process hears of it as all others do: not at once.
        self.changed_by(STRANGER, "deleted", &[(key, number)]);
        Ok(())
    }

    fn write_in_silence(&self) {
        self.process.reached("told nobody");
        let key = self.source.silent();
        let number = self.source.raise(key);
        self.told(&[(key, number)], "tell nobody");
        if let Some(longest) = self.longest {
            let known = self.process.now() + longest;
            let mut seen = self.seen.lock();
            seen.invalidated(self.process.id(), &name(key), number, known);
        }
    }

    /// A reader is not refused but by its loader, whatever happens to the server: the cache loads without it then.
    fn is_served<T>(&self, got: &Result<T, Error>) {
        if let Err(Error::Core(error)) = got {
            self.process.fails("read", error);
        }
    }

    fn told(&self, raised: &[(usize, u64)], how: &str) {
        self.process
            .note(|| format!("raises {}, to {how}", shown(raised)));
    }

    fn changed(&self, how: &'static str, raised: &[(usize, u64)]) {
        self.changed_by(self.process.id(), how, raised);
    }

    fn changed_by(&self, process: ProcessId, how: &'static str, raised: &[(usize, u64)]) {
        self.process.reached(how);
        self.process
            .note(|| format!("knows that {} is {how}", shown(raised)));
        let mut seen = self.seen.lock();
        for (key, number) in raised {
            seen.invalidated(process, &name(*key), *number, self.process.now());
        }
    }

    fn saw(&self, how: &str, key: usize, number: u64, began: Duration) {
        self.process
            .note(|| format!("{how} {} = {number}", name(key)));
        let end = self.process.now();
        let mut seen = self.seen.lock();
        seen.read(self.process.id(), &name(key), number, began, end);
    }

    /// That there is none stands for the latest number at which that was so.
    fn saw_none(&self, key: usize, began: Duration) {
        self.process.reached("found none");
        let now = self.source.number(key);
        let gone = (1..=now).rev().find(|number| is_gone(*number));
        let gone = gone.filter(|_| may_be_gone(key));
        self.saw("finds none, as of", key, gone.unwrap_or_default(), began);
    }
}

/// Which write it is: the numbers from here on, up to the next.
const INVALIDATE: u32 = 0;
const BY_TAG: u32 = 5;
const THROUGH: u32 = 7;

fn first(numbers: &[u64]) -> u64 {
    numbers.first().copied().unwrap_or_default()
}

fn shown(raised: &[(usize, u64)]) -> String {
    let all = raised
        .iter()
        .map(|(key, number)| format!("{} = {number}", name(*key)));
    all.collect::<Vec<_>>().join(", ")
}
