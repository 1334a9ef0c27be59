//! Killed in a conversation over a connection, by one who has begun to try out when to look for the answer first, and makes
//! the line of its next message its own meanwhile.
//!
//! That begins after more than a hundred turns, so the child converses at full speed before its section. In the section it
//! receives an answer that has come already, and so goes the same way each time. If it does so as one who has sent
//! nothing, it tries nothing out, which is how the test knows that it otherwise does.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use annulus::{ByteDuplex, Connect, Duplex, Face};

use super::meet::{Other, PATIENCE};
use crate::support::deadline::poll;
use crate::support::ptrace::Tracee;
use crate::support::shared::SharedWords;
use crate::support::sweep::{CHILD_LIFE, Case, Points, Verdict, report, sweep, walk};

/// Turns after which a later look is being tried.
const TURNS: u64 = 200;

/// Of the rings, in messages or in bytes: in the section there is room for the next lines.
const CAPACITY: usize = 16 * 1024;

/// Where the other side counts its answers, and the messages that were not the next one.
const ANSWERS: usize = 2;
const STRANGE: usize = 3;

/// A connection for numbers.
trait Line: Face + Send {
    /// What a test calls it.
    const NAME: &str;

    fn say(&mut self, number: u64) -> Result<(), String>;

    /// The next number, if the peer is there.
    fn hear(&mut self) -> Option<u64>;

    /// The same by one who has sent nothing.
    fn hear_only(&mut self) -> Option<u64>;
}

impl Line for Duplex<u64> {
    const NAME: &str = "a connection";

    fn say(&mut self, number: u64) -> Result<(), String> {
        self.send(number).map_err(|error| format!("send: {error}"))
    }

    fn hear(&mut self) -> Option<u64> {
        self.recv().ok()
    }

    fn hear_only(&mut self) -> Option<u64> {
        self.receiver()?.recv().ok()
    }
}

fn number(message: &[u8]) -> Option<u64> {
    message.try_into().map(u64::from_le_bytes).ok()
}

impl Line for ByteDuplex {
    const NAME: &str = "a connection for bytes";

    fn say(&mut self, number: u64) -> Result<(), String> {
        self.send(&number.to_le_bytes()).map_err(|error| format!("send: {error}"))
    }

    fn hear(&mut self) -> Option<u64> {
        let mut message = Vec::with_capacity(8);
        self.recv(&mut message).ok()?;
        number(&message)
    }

    fn hear_only(&mut self) -> Option<u64> {
        let mut message = Vec::with_capacity(8);
        self.receiver()?.recv(&mut message).ok()?;
        number(&message)
    }
}

/// Answers numbers that come one after the other, to the end.
fn converse<F: Line>(mut peer: F, counts: &SharedWords) {
    counts[0].fetch_add(1, Ordering::AcqRel);
    let mut next = 0;
    while let Some(number) = peer.hear() {
        counts[STRANGE].fetch_add(u64::from(number != next), Ordering::AcqRel);
        next = number + 1;
        let _ = peer.say(number);
        counts[ANSWERS].fetch_add(1, Ordering::AcqRel);
    }
    drop(peer);
    counts[1].fetch_add(1, Ordering::AcqRel);
}

/// Has the other side send a number back.
fn ask(peer: &mut impl Line, number: u64) -> Result<(), String> {
    peer.say(number)?;
    match peer.hear() {
        Some(answer) if answer == number => Ok(()),
        other => Err(format!("{number} was sent, and back came {other:?}")),
    }
}

/// A client, killed when it receives the last answer.
struct Conversing<'a, F> {
    listener: &'a Other,
    /// Whether it receives it as one who has sent something.
    awaits: bool,
    most: usize,
    line: PhantomData<fn() -> F>,
}

impl<F: Line> Conversing<'_, F> {
    fn answers(&self) -> u64 {
        self.listener.counts[ANSWERS].load(Ordering::Acquire)
    }

    fn connect(&self) -> Result<F, String> {
        let open = Connect::new().capacity(CAPACITY).timeout(PATIENCE).open(self.listener.path());
        open.map_err(|error| format!("connect: {error}"))
    }
}

impl<F: Line> Case for Conversing<'_, F> {
    /// How many answers there were before.
    type Survivor = u64;

    fn label(&self) -> String {
        format!("recv over {}{}", F::NAME, if self.awaits { ", of an answer" } else { "" })
    }

    fn start(&self) -> Result<(Tracee, u64), String> {
        let before = self.answers();
        let tracee = Tracee::spawn(CHILD_LIFE, |child| {
            let mut server = self.connect().expect("it listens");
            (0..TURNS).for_each(|number| ask(&mut server, number).expect("it answers"));
            server.say(TURNS).expect("it listens");
            assert!(poll(PATIENCE, || self.answers() == before + TURNS + 1));
            let answer = if self.awaits {
                child.section(|| server.hear())
            } else {
                child.section(|| server.hear_only())
            };
            black_box(answer.is_some());
        })?;
        Ok((tracee, before))
    }

    fn check(&self, before: u64) -> Result<Verdict, String> {
        self.listener.is_at_rest(self.most)?;
        let strange = self.listener.counts[STRANGE].load(Ordering::Acquire);
        if strange > 0 || self.answers() != before + TURNS + 1 {
            return Err(format!("{} answers, {strange} to what was not sent", self.answers()));
        }
        ask(&mut self.connect()?, 0)?;
        self.listener.is_at_rest(self.most)?;
        Ok(Verdict::of(0))
    }

    fn effect(&self) -> u64 {
        0
    }
}

fn conversing_over<F: Line>() {
    let listener = Other::listening(converse::<F>);
    let with =
        |awaits, most| Conversing::<F> { listener: &listener, awaits, most, line: PhantomData };
    // It has all that it keeps once it has had a client.
    walk(&with(false, usize::MAX)).expect("a client is served");
    let most = listener.is_at_rest(usize::MAX).expect("it rests") + 2;
    let cases = [false, true].map(|awaits| with(awaits, most));
    let [short, long] =
        cases.each_ref().map(|case| walk(case).expect("it converses").instructions());
    assert!(short < long, "{short} instructions at once, {long} where it tries something out");
    report(&format!("receive over {}", F::NAME), &cases.map(|case| sweep(&case, Points::Every, 1)));
    listener.peer.kill().expect("it served to the end");
}

#[test]
fn conversing() {
    conversing_over::<Duplex<u64>>();
}

#[test]
fn conversing_in_bytes() {
    conversing_over::<ByteDuplex>();
}
