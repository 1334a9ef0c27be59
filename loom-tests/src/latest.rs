//! The latest value: a writer, readers and observers, one of whom may die.

use crate::explore::{End, explore, explore_kills, process};
use annulus::protocol::Blocked;
use annulus::protocol::latest::{self, Chooser, Latest, Observer, WriteCursor};
use annulus::protocol::layout::{Entry, Half};
use annulus::protocol::slots::Typed;
use annulus::sync::{Word, model};
use loom::thread;
use std::cell::Cell;
use std::sync::Arc;

const SHAPE: Typed<[u64; 2]> = Typed::new();

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Nobody.
    Nobody,
    /// The writer, at each of its accesses; a successor goes on.
    Writer,
    /// A reader, at each of its accesses; another one takes its entry.
    Reader,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// What it shows.
    pub name: &'static str,
    /// Values that the writer writes.
    pub writes: u64,
    /// Values that each reader reads.
    pub readers: &'static [usize],
    /// Values that somebody without an entry reads.
    pub observed: usize,
    /// Who dies.
    pub victim: Victim,
    /// The most preemptions in an interleaving.
    pub preemptions: usize,
}

/// The segment.
struct Memory {
    writer: Half,
    readers: Vec<Entry>,
    words: Vec<Word>,
}

impl Memory {
    fn new(readers: usize) -> Arc<Self> {
        let words = latest::words_for(SHAPE, readers).unwrap();
        // loom's cells are not `Sync`: it is loom that checks who touches them.
        #[allow(clippy::arc_with_non_send_sync)]
        Arc::new(Self {
            writer: Half::new(),
            readers: (0..readers).map(|_| Entry::new()).collect(),
            words: (0..words).map(|_| Word::new(0)).collect(),
        })
    }

    fn memory(&self) -> Latest<'_> {
        Latest { writer: &self.writer, readers: &self.readers, words: &self.words }
    }

    /// Writes `count` values, each of which says its version.
    fn write(&self, count: u64) {
        let mem = self.memory();
        let mut cursor = WriteCursor::recover(mem, SHAPE).unwrap();
        for _ in 0..count {
            let next = cursor.version() + 1;
            let bytes: Vec<u8> = [next; 2].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(cursor.write(mem, SHAPE, &bytes), Ok(next));
        }
    }

    /// Reads `count` times as the owner of the entry `me`, none before the version `seen`.
    fn read(&self, me: usize, count: usize, seen: &Cell<u64>) {
        let mem = self.memory();
        let chooser = Chooser::new(mem, SHAPE, me);
        let choose = |last| chooser.hold(SHAPE, chooser.choose(last).unwrap());
        let mut held = choose(0);
        for _ in 0..count {
            if !held.is_latest() {
                held = choose(held.version());
            }
            let mut value = [0_u64; 2];
            // SAFETY: there is room for a value.
            unsafe { held.copy(SHAPE, value.as_mut_ptr().cast()) };
            assert_eq!(value, [held.version(); 2], "torn");
            assert!(value[0] >= seen.get(), "{} after {}", value[0], seen.get());
            seen.set(value[0]);
        }
    }

    /// Looks `count` times without an entry.
    fn observe(&self, count: usize) {
        let mem = self.memory();
        let observer = Observer::new(mem, SHAPE);
        model::reads_at_risk(true);
        for _ in 0..count {
            let mut value = [0_u64; 2];
            // SAFETY: there is room for a value.
            match unsafe { observer.try_copy(mem, SHAPE, value.as_mut_ptr().cast()) } {
                Ok(version) => assert_eq!(value, [version; 2], "torn"),
                Err(blocked) => assert_eq!(blocked, Blocked::NotReady),
            }
        }
        model::reads_at_risk(false);
    }
}

impl Variable {
    /// Explores it.
    pub fn run(&self) {
        let variable = *self;
        if self.victim == Victim::Nobody {
            explore(self.name, Some(self.preemptions), move || {
                variable.once(None);
            });
        } else {
            explore_kills(self.name, Some(self.preemptions), move |kill| variable.once(kill));
        }
    }

    fn once(self, kill: Option<usize>) -> End {
        let memory = Memory::new(self.readers.len());
        let readers = self.readers.iter().enumerate().map(|(me, &count)| {
            let memory = Arc::clone(&memory);
            let (kills, kill) = (self.victim == Victim::Reader && me == 0, kill);
            thread::spawn(move || {
                let seen = Cell::new(0);
                let end = process(kill.filter(|_| kills), || memory.read(me, count, &seen));
                if end.killed {
                    memory.read(me, 1, &seen);
                }
                (end, seen.get())
            })
        });
        let readers: Vec<_> = readers.collect();
        let observer = (self.observed > 0).then(|| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.observe(self.observed))
        });
        let kills = self.victim == Victim::Writer;
        let mut end = process(kill.filter(|_| kills), || memory.write(self.writes));
        if end.killed {
            memory.write(2);
        }
        let mut seen = 0;
        for (me, reader) in readers.into_iter().enumerate() {
            let (readers_end, last) = reader.join().unwrap();
            seen = last.max(seen);
            if self.victim == Victim::Reader && me == 0 {
                end = readers_end;
            }
        }
        observer.map(|observer| observer.join().unwrap());
        // Whoever has died where: there is a value, it is whole, and the next writer goes on from it.
        memory.write(2);
        let last = Cell::new(seen);
        memory.read(0, 1, &last);
        assert!(last.get() >= seen + 2 && last.get() <= self.writes + 4);
        end
    }
}

const VARIABLE: Variable = Variable {
    name: "",
    writes: 4,
    readers: &[2],
    observed: 0,
    victim: Victim::Nobody,
    preemptions: 2,
};

/// Nobody dies.
pub const LATEST_UNDISTURBED: &[Variable] = &[
    Variable { name: "latest: a reader of one buffer after the other", preemptions: 3, ..VARIABLE },
    Variable {
        name: "latest: a reader that chooses while the writer looks",
        writes: 3,
        preemptions: 4,
        ..VARIABLE
    },
    Variable { name: "latest: two readers", readers: &[1, 1], writes: 5, ..VARIABLE },
    Variable { name: "latest: an observer", readers: &[0], observed: 1, writes: 5, ..VARIABLE },
];

/// One dies.
pub const LATEST_DEATHS: &[Variable] = &[
    Variable { name: "latest: the writer dies", victim: Victim::Writer, ..VARIABLE },
    Variable { name: "latest: the reader dies", victim: Victim::Reader, ..VARIABLE },
];
