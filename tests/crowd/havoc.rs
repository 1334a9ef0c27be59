//! Processes of which one, or several at once, are killed at random times and replaced, over and over.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::support::deadline::poll;
use crate::support::process::{Peer, say};

const LONGEST_LIFE: Duration = Duration::from_millis(4);
/// The time in which something must get through again, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const CHILD_LIFE: Duration = Duration::from_secs(240);

/// Who is killed, and how often.
pub struct Havoc<'a> {
    pub title: &'a str,
    /// How many processes there are at a time.
    pub places: usize,
    /// How many of them, the last ones, are never killed.
    pub spared: usize,
    pub kills: usize,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
}

impl Havoc<'_> {
    /// Runs `live(place, random)` in each place, kills and replaces; the processes that are there in the end, and how
    /// often one was killed in each place. After every few kills `progress` must grow, unless it says that there is
    /// nothing more to come; otherwise `last_words` are printed.
    pub fn wreak(
        &self,
        live: impl Fn(usize, u64),
        progress: impl Fn() -> Option<u64>,
        last_words: impl Fn() -> String,
    ) -> (Vec<Peer>, Vec<u64>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = since.expect("a clock").as_nanos() as u64;
        say(&format!("{}: seed {seed}\n", self.title));
        let mut random = Random(seed | 1);
        let spawn = |place: usize, random: u64| Peer::spawn(CHILD_LIFE, || live(place, random));
        let mut peers: Vec<Option<Peer>> =
            (0..self.places).map(|place| Some(spawn(place, random.next()))).collect();
        let mut killed = vec![0; self.places];
        let mortals = self.places - self.spared;
        for kill in 0..self.kills {
            let before = progress();
            let life = Duration::from_nanos(random.next() % LONGEST_LIFE.as_nanos() as u64);
            let end = Instant::now() + life;
            while Instant::now() < end {
                std::thread::yield_now();
            }
            // One, sometimes several at once.
            let several =
                if random.next().is_multiple_of(8) { 1 + random.next() as usize % 3 } else { 1 };
            let first = random.next() as usize % mortals;
            let victims: Vec<usize> =
                (0..several.min(mortals)).map(|i| (first + i) % mortals).collect();
            for &place in &victims {
                let peer = peers[place].as_ref().expect("one in each place");
                peer.signal(Signal::SIGKILL);
            }
            for &place in &victims {
                // Its successor comes when it is gone: a role is free then.
                let peer = peers[place].take().expect("one in each place");
                peer.kill().unwrap_or_else(|error| panic!("in place {place}: {error}"));
                killed[place] += 1;
                peers[place] = Some(spawn(place, random.next()));
            }
            if kill % 16 == 0 {
                let goes_on = poll(PATIENCE, || progress().is_none_or(|now| Some(now) > before));
                let peers = || peers.iter().flatten().map(Peer::describe).collect::<Vec<_>>();
                let last_words = || format!("{} {:#?}", last_words(), peers());
                assert!(goes_on, "kill {kill}: nothing gets through: {}", last_words());
            }
        }
        (peers.into_iter().flatten().collect(), killed)
    }
}
