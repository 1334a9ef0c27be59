//! Killed in a conversation over a connection, by one who has begun to try out when to look for the answer first, and makes
//! the line of its next message its own meanwhile.
//!
//! That begins after more than a hundred turns, so the child converses at full speed before its section. In the section it
//! receives an answer that has come already, and so goes the same way each time. If it does so as one who has sent
//! nothing, it tries nothing out, which is how the test knows that it otherwise does.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use annulus::Duplex;

use super::meet::{Other, PATIENCE, ask, connect};
use crate::support::deadline::poll;
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep, walk};

/// Turns after which a later look is being tried.
const TURNS: u64 = 200;

/// Where the other side counts its answers, and the messages that were not the next one.
const ANSWERS: usize = 2;
const STRANGE: usize = 3;

/// Answers numbers that come one after the other, to the end.
fn converse(mut peer: Duplex<u64>, counts: &SharedWords) {
    counts[0].fetch_add(1, Ordering::AcqRel);
    let mut next = 0;
    while let Ok(number) = peer.recv() {
        counts[STRANGE].fetch_add(u64::from(number != next), Ordering::AcqRel);
        next = number + 1;
        let _ = peer.send(number);
        counts[ANSWERS].fetch_add(1, Ordering::AcqRel);
    }
    drop(peer);
    counts[1].fetch_add(1, Ordering::AcqRel);
}

/// A client, killed when it receives the last answer.
struct Conversing<'a> {
    listener: &'a Other,
    /// Whether it receives it as one who has sent something.
    awaits: bool,
    most: usize,
}

impl Conversing<'_> {
    fn answers(&self) -> u64 {
        self.listener.counts[ANSWERS].load(Ordering::Acquire)
    }
}

impl Case for Conversing<'_> {
    /// How many answers there were before.
    type Survivor = u64;

    fn label(&self) -> String {
        format!("recv over a connection{}", if self.awaits { ", of an answer" } else { "" })
    }

    fn start(&self) -> Result<(Tracee, u64), String> {
        let before = self.answers();
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut server = connect(self.listener.path()).expect("it listens");
            (0..TURNS).for_each(|number| ask(&mut server, number).expect("it answers"));
            server.send(TURNS).expect("it listens");
            assert!(poll(PATIENCE, || self.answers() == before + TURNS + 1));
            let answer = if self.awaits {
                child.section(|| server.recv())
            } else {
                let receiver = server.receiver().expect("it is open");
                child.section(|| receiver.recv())
            };
            black_box(answer.is_ok());
        })?;
        Ok((tracee, before))
    }

    fn check(&self, before: u64) -> Result<Verdict, String> {
        self.listener.is_at_rest(self.most)?;
        let strange = self.listener.counts[STRANGE].load(Ordering::Acquire);
        if strange > 0 || self.answers() != before + TURNS + 1 {
            return Err(format!("{} answers, {strange} to what was not sent", self.answers()));
        }
        ask(&mut connect(self.listener.path())?, 0)?;
        self.listener.is_at_rest(self.most)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

#[test]
fn conversing() {
    let listener = Other::listening(converse);
    let with = |awaits, most| Conversing { listener: &listener, awaits, most };
    // It has all that it keeps once it has had a client.
    walk(&with(false, usize::MAX)).expect("a client is served");
    let most = listener.is_at_rest(usize::MAX).expect("it rests") + 2;
    let cases = [false, true].map(|awaits| with(awaits, most));
    let [short, long] =
        cases.each_ref().map(|case| walk(case).expect("it converses").instructions());
    assert!(short < long, "{short} instructions at once, {long} where it tries something out");
    report("receive over a connection", &cases.map(|case| sweep(&case, Points::Every, 1)));
    listener.peer.kill().expect("it served to the end");
}
