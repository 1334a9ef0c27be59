//! A ring with a lane for each of two senders, and what happens in it.

use crate::explore::{End, process};
use crate::futex::Futex;
use annulus::payload::WORD;
use annulus::protocol::Blocked;
use annulus::protocol::lanes::{self, Lanes, RecvCursor};
use annulus::protocol::layout::Half;
use annulus::protocol::park::{self, Answered, Sleep};
use annulus::protocol::records::{self, Records};
use annulus::protocol::room::Look;
use annulus::sync::{AtomicU32, AtomicU64, Edge, Ordering, Word, model};
use loom::thread;
use std::cell::Cell;
use std::sync::Arc;

/// Lanes, and senders.
const SENDERS: usize = 2;
/// Bytes of a message: a number of its own.
const SIZE: usize = WORD;

/// What passes through a ring with two lanes.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Messages of each sender.
    pub messages: [u64; SENDERS],
    /// Messages that a lane has room for.
    pub room: usize,
    /// Whether the ring is ordered.
    pub ordered: bool,
}

/// The segment.
struct Ring {
    round: Round,
    /// Where the senders meet the receiver.
    sender: Half,
    receiver: Half,
    senders: [Half; SENDERS],
    receivers: [Half; SENDERS],
    words: [Vec<Word>; SENDERS],
    doorbell: [AtomicU64; 1],
    /// On the meeting senders' epoch, where the receiver sleeps.
    on_sender: Futex,
    /// On each lane's receiver's epoch, where its sender sleeps.
    on_receivers: [Futex; SENDERS],
}

impl Round {
    /// Bytes of messages that a lane is made for.
    fn capacity(self) -> usize {
        let message = if self.ordered { SIZE + WORD } else { SIZE };
        self.room * (WORD + message) - WORD - (message - SIZE)
    }

    fn ring(self) -> Arc<Ring> {
        let words = records::words_for(lanes::lane_capacity(self.capacity(), self.ordered));
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        Arc::new(Ring {
            round: self,
            sender: Half::new(),
            receiver: Half::new(),
            senders: [(); SENDERS].map(|()| Half::new()),
            receivers: [(); SENDERS].map(|()| Half::new()),
            words: [(); SENDERS].map(|()| (0..words).map(|_| Word::new(0)).collect()),
            doorbell: [AtomicU64::new(0)],
            on_sender: Futex::default(),
            on_receivers: [(); SENDERS].map(|()| Futex::default()),
        })
    }

    /// Sends what is left of a sender's messages from `next` on, which is the next one at every moment. No more
    /// than there is room for.
    fn send(self, ring: &Arc<Ring>, lane: usize, next: &Cell<u64>) {
        let mut sender = Sender::join(ring, lane);
        while next.get() < self.messages[lane] {
            if !sender.send(next.get()) {
                return;
            }
            next.set(next.get() + 1);
        }
    }

    /// A process for each sender that has messages.
    fn start_senders(self, ring: &Arc<Ring>) -> Vec<thread::JoinHandle<()>> {
        let busy = (0..SENDERS).filter(|&lane| self.messages[lane] > 0);
        let start = |lane| {
            let there = Arc::clone(ring);
            thread::spawn(move || self.send(&there, lane, &Cell::new(0)))
        };
        busy.map(start).collect()
    }

    /// Senders, and a receiver that sleeps whenever there is nothing: everything arrives, in each sender's order, and
    /// nobody sleeps for ever.
    pub fn undisturbed(self) {
        let ring = self.ring();
        let senders = self.start_senders(&ring);
        let mut receiver = Receiver::join(&ring);
        let received = [Cell::new(0), Cell::new(0)];
        while !received.iter().zip(self.messages).all(|(received, all)| received.get() == all) {
            assert!(receiver.receive(&received), "the slice ends");
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(!receiver.try_receive(&received), "a message comes out of nowhere");
    }

    /// One sender sends when it has seen that another has: a receiver that looks all the while never gets the
    /// second one's message first.
    pub fn relay(self) {
        let ring = self.ring();
        let baton = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let (there, given) = (Arc::clone(&ring), Arc::clone(&baton));
        let first = thread::spawn(move || {
            self.send(&there, 0, &Cell::new(0));
            given.store(true, Ordering::Release);
        });
        let there = Arc::clone(&ring);
        let second = thread::spawn(move || {
            if baton.load(Ordering::Acquire) {
                self.send(&there, 1, &Cell::new(0));
            }
        });
        let mut receiver = Receiver::join(&ring);
        let received = [Cell::new(0), Cell::new(0)];
        let in_order = || {
            let early = received[1].get() > 0 && received[0].get() < self.messages[0];
            assert!(!early, "an answer before its question");
        };
        receiver.try_receive(&received);
        in_order();
        first.join().unwrap();
        second.join().unwrap();
        while receiver.try_receive(&received) {
            in_order();
        }
    }

    /// A sender is killed and another takes its lane: what was committed arrives, what was not is as if it had never
    /// been begun, and the other sender notices nothing.
    pub fn sender_dies(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let victim = thread::spawn(move || {
            let next = Cell::new(0);
            let end = process(kill, || self.send(&there, 0, &next));
            let done = next.get();
            drop(Sender::join(&there, 0));
            next.set(there.senders[0].cursor.position.load(Ordering::Relaxed) / self.record());
            assert!(done <= next.get() && next.get() <= done + 1, "a message is left out");
            self.send(&there, 0, &next);
            end
        });
        let others = Self { messages: [0, self.messages[1]], ..self }.start_senders(&ring);
        let mut receiver = Receiver::join(&ring);
        let received = [Cell::new(0), Cell::new(0)];
        while !received.iter().zip(self.messages).all(|(received, all)| received.get() == all) {
            assert!(receiver.receive(&received), "the slice ends");
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        victim.join().unwrap()
    }

    /// A sender is killed and nobody comes after it: the receiver gets everything committed, rung for or not, at the
    /// latest by the end of its slice.
    pub fn sender_dies_alone(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let there = Arc::clone(&ring);
        let victim = thread::spawn(move || {
            let end = process(kill, || self.send(&there, 0, &Cell::new(0)));
            there.on_sender.let_time_pass();
            end
        });
        let mut receiver = Receiver::join(&ring);
        let received = [Cell::new(0), Cell::new(0)];
        while receiver.receive(&received) {}
        let end = victim.join().unwrap();
        // The next sender finds out how much was committed.
        drop(Sender::join(&ring, 0));
        let committed = ring.senders[0].cursor.position.load(Ordering::Relaxed) / self.record();
        assert_eq!(received[0].get(), committed, "a committed message is lost");
        end
    }

    /// The receiver is killed and another takes its role: nothing is lost, and only what it was about to take arrives
    /// again.
    pub fn receiver_dies(self, kill: Option<usize>) -> End {
        let ring = self.ring();
        let senders = self.start_senders(&ring);
        let received = [Cell::new(0), Cell::new(0)];
        let end = process(kill, || {
            let mut receiver = Receiver::join(&ring);
            // All that takes bits and makes announcements.
            let _ = receiver.try_receive(&received)
                || (receiver.sweep() && receiver.try_receive(&received));
        });
        for (half, received) in ring.receivers.iter().zip(&received) {
            let noted = half.cursor.position.load(Ordering::Relaxed) / self.record();
            assert!(received.get() <= noted && noted <= received.get() + 1);
            received.set(noted);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut receiver = Receiver::join(&ring);
        while receiver.try_receive(&received) {}
        assert_eq!(received.map(|received| received.get()), self.messages, "a message is lost");
        end
    }

    /// Bytes of a message's record.
    fn record(self) -> u64 {
        records::record(if self.ordered { SIZE + WORD } else { SIZE }) as u64
    }
}

impl Ring {
    fn records(&self, lane: usize) -> Records<'_> {
        let (sender, receiver) = (&self.senders[lane], &self.receivers[lane]);
        Records { sender, receiver, words: &self.words[lane] }
    }

    fn capacity(&self) -> usize {
        lanes::lane_capacity(self.round.capacity(), self.round.ordered)
    }
}

/// The content of a message.
fn content(lane: usize, number: u64) -> u64 {
    (lane as u64 + 1) << 32 | number
}

/// The side that sends in a lane.
struct Sender {
    ring: Arc<Ring>,
    lane: usize,
    cursor: records::SendCursor,
    /// What was answered in the lane, and where the senders meet.
    answered: Answered,
    met: Answered,
}

impl Sender {
    fn join(ring: &Arc<Ring>, lane: usize) -> Self {
        model::own(&ring.senders[lane], &ring.words[lane]);
        let sender = Self {
            cursor: records::SendCursor::recover(ring.records(lane), ring.capacity()).unwrap(),
            answered: Answered::up_to_now(&ring.receivers[lane], false),
            met: Answered::up_to_now(&ring.receiver, false),
            ring: Arc::clone(ring),
            lane,
        };
        // Its predecessor may have died before it rang.
        lanes::ask(&ring.doorbell, lane);
        sender.ring();
        sender
    }

    fn ring(&self) {
        park::ring(&self.ring.sender);
        self.ring.on_sender.wake_all();
    }

    fn notify(&mut self) {
        if self.answered.must_wake(&self.ring.receivers[self.lane]) {
            lanes::ask(&self.ring.doorbell, self.lane);
            if self.met.must_wake(&self.ring.receiver) {
                self.ring();
            }
        }
    }

    fn try_send(&mut self, number: u64) -> bool {
        let ring = Arc::clone(&self.ring);
        let mem = ring.records(self.lane);
        let whole = if ring.round.ordered { SIZE + WORD } else { SIZE };
        let sent = self.cursor.try_reserve(mem, whole, Look::Exact).map(|span| {
            let own = if ring.round.ordered { span.behind_stamp().unwrap() } else { span };
            own.words(mem)[0].store(content(self.lane, number), Ordering::Relaxed);
            if ring.round.ordered {
                lanes::number(mem, &ring.sender.cursor.position, span);
            }
            self.cursor.commit(mem, span);
        });
        assert_ne!(sent, Err(Blocked::Corrupt));
        // Also of a pad.
        self.notify();
        sent.is_ok()
    }

    /// Sends, asleep while there is no room; `false` if the slice ends first.
    fn send(&mut self, number: u64) -> bool {
        while !self.try_send(number) {
            let (own, peer) = (&self.ring.senders[self.lane], &self.ring.receivers[self.lane]);
            let sleep = Sleep::announce(own, peer, || Edge::ParkAnnounce.fence());
            if self.try_send(number) {
                return true;
            }
            let epoch = &self.ring.receivers[self.lane].presence.epoch;
            if !self.ring.on_receivers[self.lane].wait(epoch, sleep.expected()) {
                return self.try_send(number);
            }
        }
        true
    }
}

/// The side that receives.
struct Receiver {
    ring: Arc<Ring>,
    cursor: RecvCursor,
}

impl Receiver {
    fn join(ring: &Arc<Ring>) -> Self {
        model::own(&ring.receivers, &[]);
        let records = [0, 1].map(|lane| ring.records(lane));
        let mem = Lanes { lanes: &records, doorbell: &ring.doorbell };
        let Round { ordered, .. } = ring.round;
        let cursor = RecvCursor::recover(mem, ring.round.capacity(), ordered, false).unwrap();
        for (half, futex) in ring.receivers.iter().zip(&ring.on_receivers) {
            park::ring(half);
            futex.wake_all();
        }
        Self { ring: Arc::clone(ring), cursor }
    }

    /// Calls `work` with the memory, and with what wakes the sender that sleeps on a word.
    fn with<R>(
        &mut self,
        work: impl FnOnce(&mut RecvCursor, Lanes<'_>, &dyn Fn(&AtomicU32)) -> R,
    ) -> R {
        let ring = Arc::clone(&self.ring);
        let records = [0, 1].map(|lane| ring.records(lane));
        let mem = Lanes { lanes: &records, doorbell: &ring.doorbell };
        work(&mut self.cursor, mem, &|word| {
            let mut lanes = ring.receivers.iter().zip(&ring.on_receivers);
            let sleeps_here =
                |(half, _): &(&Half, &Futex)| std::ptr::eq(&half.presence.epoch, word);
            lanes.find(sleeps_here).expect("a lane's word").1.wake_all();
        })
    }

    /// Receives a message, if there is one, which must be the next one of its lane.
    fn try_receive(&mut self, received: &[Cell<u64>; SENDERS]) -> bool {
        let found = self.with(|cursor, mem, wake| {
            cursor.try_claim(mem, wake).map(|span| {
                let lane = cursor.current();
                let got = span.words(mem.lanes[lane])[0].load(Ordering::Relaxed);
                assert_eq!(got, content(lane, received[lane].get()), "lane {lane}");
                cursor.release(mem, span, wake);
                received[lane].set(received[lane].get() + 1);
            })
        });
        assert_ne!(found, Err(Blocked::Corrupt));
        found.is_ok()
    }

    fn sweep(&mut self) -> bool {
        let found = self.with(|cursor, mem, wake| {
            cursor.sweep(mem, false, || Edge::ParkAnnounce.fence(), wake)
        });
        assert_ne!(found, Err(Blocked::Corrupt));
        found.is_ok()
    }

    /// Receives, asleep while there is nothing; `false` if the slice ends first.
    fn receive(&mut self, received: &[Cell<u64>; SENDERS]) -> bool {
        while !self.try_receive(received) {
            let (own, peer) = (&self.ring.receiver, &self.ring.sender);
            let sleep = Sleep::announce(own, peer, || Edge::ParkAnnounce.fence());
            if self.sweep() {
                continue;
            }
            let epoch = &self.ring.sender.presence.epoch;
            if !self.ring.on_sender.wait(epoch, sleep.expected()) {
                self.sweep();
                return self.try_receive(received);
            }
        }
        true
    }
}
