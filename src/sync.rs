//! The atomics that the protocols are written in, and the only file that knows loom.
//!
//! In a normal build everything here is a name for what `core` has. Under `cfg(loom)` the same names
//! stand for loom's atomics, with three additions that the models need:
//!
//! * **kill points**: every atomic access is counted, and [`model::kill_after`] makes the k-th access
//!   of a thread its last. What the thread would have stored afterwards is never stored, which is
//!   what SIGKILL does to a process.
//! * **weakened edges**: [`model::weaken`] turns one named edge ([`Edge`]) into a relaxed access, so
//!   that a test can show that some model notices; [`model::loosen`] does so with a bound ([`Bound`]), which then
//!   lets one message more pass.
//! * **tracked payload**: each payload word carries a loom cell beside its atomic, so that reading a
//!   word without a happens-before edge from its writer, or overwriting it without one from its
//!   reader, fails the model at once instead of only when a stale value happens to surface.

pub use core::sync::atomic::Ordering;

/// The named happens-before edges of the protocols; `protocol/mod.rs` has the table and the proof.
///
/// Each end of an edge is weakened apart, because either alone breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Edge {
    /// S1, store end: the sender's `FULL(p)` on a cell's stamp.
    CommitStore,
    /// S1, load end: the receiver's load of that stamp.
    CommitLoad,
    /// S2, store end: the receiver's `released` position.
    ReleaseStore,
    /// S2, load end: the sender's load of `released`.
    ReleaseLoad,
    /// S3, store end: the receiver's exact `head`.
    HeadStore,
    /// S3, load end: the sender's load of `head` when `released` shows no room.
    HeadLoad,
    /// S4, store end: the sender's noted `tail`.
    NoteStore,
    /// S4, load end: a new receiver's load of it.
    NoteLoad,
    /// S4, load end: the load of it by a receiver in a stream.
    StreamLoad,
    /// R1, store end: the sender's header word of a record.
    RecordStore,
    /// R1, load end: the receiver's load of that header.
    RecordLoad,
    /// R2, store end: the receiver's `released` position, in bytes.
    SpaceStore,
    /// R2, load end: the sender's load of it.
    SpaceLoad,
    /// R3, store end: the receiver's exact `head`, in bytes.
    SpaceHeadStore,
    /// R3, load end: the sender's load of it.
    SpaceHeadLoad,
    /// P1, notifier's end: the barrier between publishing and looking for a sleeper.
    ParkNotify,
    /// P1, waiter's end: the barrier between announcing sleep and looking once more.
    ParkAnnounce,
    /// C1, store end: a claimer's journal entry.
    IntentStore,
    /// C1, load end: a repairer's look at it.
    IntentLoad,
    /// C2, store end: the claim, a change of `tail` or `head`.
    ClaimStore,
    /// C2, load end: a repairer's load of that position.
    ClaimLoad,
    /// C3, store end: the stamp `FULL(p)` of a slot, or what a repairer makes of it.
    FillStore,
    /// C3, load end: a receiver's load of the stamp.
    FillLoad,
    /// C4, store end: the stamp `FREE(p + N)` of a slot.
    EmptyStore,
    /// C4, load end: a sender's load of the stamp.
    EmptyLoad,
    /// C5, store end: the change of the number that tells of orphans.
    OrphanStore,
    /// C5, load end: a receiver's load of it.
    OrphanLoad,
    /// M1, store end: a change of a semaphore's word that frees permits.
    PermitStore,
    /// M1, load end: the change that takes them, and a look.
    PermitLoad,
    /// M2, store end: the change that takes permits, after the witness of the one before.
    WitnessStore,
    /// M2, load end: a repairer's look at the word, before that at the witness.
    WitnessLoad,
    /// F1, store end: a flag is raised.
    RaiseStore,
    /// F1, load end: it is found, or taken.
    RaiseLoad,
    /// C6, store end: a sender's fence between its claim and what it writes.
    LookStore,
    /// C6, load end: the fence of one who reads a message without a claim, before it looks at the stamp again.
    LookLoad,
    /// C7, store end: a sender draws its message's number.
    DrawStore,
    /// C7, load end: a receiver's load of how many were drawn, before it looks at lanes.
    DrawLoad,
    /// C8, load end: a sender's fence behind its claim. The store end is that of C2, of the claim before.
    TurnLoad,
    /// P2, store end: the bump of a side's epoch.
    RingStore,
    /// P2, load end: a waiter's load of it, before it announces its sleep.
    RingLoad,
    /// L1, store end: the writer's word that says which buffer has the latest value.
    ValueStore,
    /// L1, load end: a reader's load of that word.
    ValueLoad,
    /// L2, load end: a reader's load of what the writer has chosen for it. The store end is the writer's barrier of
    /// L4, before a relaxed store.
    HelpLoad,
    /// L3, store end: a reader's word that it chooses, and reads its last buffer no more.
    LeaveStore,
    /// L3, load end: the writer's load of it.
    LeaveLoad,
    /// L4, writer's end: the barrier between publishing and looking at what readers have.
    ChooseWriter,
    /// L4, reader's end: the barrier between saying that it chooses and choosing.
    ChooseReader,
    /// L5, store end: the barrier between a buffer's new stamp and its new content.
    OverwriteStore,
    /// L5, load end: the barrier between an observer's copy and its second look at the stamp.
    OverwriteLoad,
    /// B1, sender's end, and the store end of B2: the barrier between storing `aim` and looking at the gates.
    JoinSender,
    /// B1, receiver's end: the barrier between saying that it joins and choosing where.
    JoinReceiver,
    /// B2, load end: the barrier between a receiver's copy and its look at `aim`.
    OverrunLoad,
    /// B3, store end: a receiver's gate.
    GateStore,
    /// B3, load end: the sender's load of it.
    GateLoad,
    /// B4, store end: the sender's `aim`.
    AimStore,
    /// B4, load end: a receiver's load of it that chooses a position by it.
    AimLoad,
}

impl Edge {
    /// Every edge, for the mutation check.
    #[cfg(loom)]
    pub const ALL: [Edge; 56] = [
        Edge::CommitStore,
        Edge::CommitLoad,
        Edge::ReleaseStore,
        Edge::ReleaseLoad,
        Edge::HeadStore,
        Edge::HeadLoad,
        Edge::NoteStore,
        Edge::NoteLoad,
        Edge::StreamLoad,
        Edge::RecordStore,
        Edge::RecordLoad,
        Edge::SpaceStore,
        Edge::SpaceLoad,
        Edge::SpaceHeadStore,
        Edge::SpaceHeadLoad,
        Edge::IntentStore,
        Edge::IntentLoad,
        Edge::ClaimStore,
        Edge::ClaimLoad,
        Edge::FillStore,
        Edge::FillLoad,
        Edge::EmptyStore,
        Edge::EmptyLoad,
        Edge::OrphanStore,
        Edge::OrphanLoad,
        Edge::PermitStore,
        Edge::PermitLoad,
        Edge::WitnessStore,
        Edge::WitnessLoad,
        Edge::RaiseStore,
        Edge::RaiseLoad,
        Edge::LookStore,
        Edge::LookLoad,
        Edge::DrawStore,
        Edge::DrawLoad,
        Edge::TurnLoad,
        Edge::ParkNotify,
        Edge::ParkAnnounce,
        Edge::RingStore,
        Edge::RingLoad,
        Edge::ValueStore,
        Edge::ValueLoad,
        Edge::HelpLoad,
        Edge::LeaveStore,
        Edge::LeaveLoad,
        Edge::ChooseWriter,
        Edge::ChooseReader,
        Edge::OverwriteStore,
        Edge::OverwriteLoad,
        Edge::JoinSender,
        Edge::JoinReceiver,
        Edge::OverrunLoad,
        Edge::GateStore,
        Edge::GateLoad,
        Edge::AimStore,
        Edge::AimLoad,
    ];

    /// The ordering of the edge's load end.
    #[inline(always)]
    pub fn load(self) -> Ordering {
        self.or_weakened(Ordering::Acquire)
    }

    /// The ordering of the edge's store end.
    #[inline(always)]
    pub fn store(self) -> Ordering {
        self.or_weakened(Ordering::Release)
    }

    /// The ordering of a read-modify-write that is the load end of this edge and the store end of `store`.
    #[inline(always)]
    pub fn load_and(self, store: Self) -> Ordering {
        match (self.load(), store.store()) {
            (Ordering::Acquire, Ordering::Release) => Ordering::AcqRel,
            (Ordering::Acquire, _) => Ordering::Acquire,
            (_, store) => store,
        }
    }

    /// Loads `from` as the edge's load end, from memory that may be mapped read-only.
    ///
    /// Rust promises no more than relaxed loads there, so in a build it is one of those and a fence. The models
    /// load with the ordering instead. That is less: whatever a load orders by itself, the fence behind it
    /// orders too, so what holds in the models holds here.
    #[inline(always)]
    pub fn acquire<W: Load>(self, from: &W) -> W::Value {
        #[cfg(not(loom))]
        return acquire(from);
        #[cfg(loom)]
        return from.load(self.load());
    }

    #[cfg(not(loom))]
    #[inline(always)]
    const fn or_weakened(self, ordering: Ordering) -> Ordering {
        ordering
    }

    #[cfg(loom)]
    fn or_weakened(self, ordering: Ordering) -> Ordering {
        if model::is_weakened(self) { Ordering::Relaxed } else { ordering }
    }

    /// A sequentially consistent fence: either end of an edge between two sides that each store and then load
    /// what the other stores.
    #[inline(always)]
    pub fn fence(self) {
        self.order(Ordering::SeqCst);
    }

    /// A fence that is the store end of this edge and the load end of `load`.
    #[inline(always)]
    pub fn order_and(self, load: Self) {
        #[cfg(not(loom))]
        {
            let _ = load;
            fence(Ordering::AcqRel);
        }
        #[cfg(loom)]
        {
            load.order(Ordering::Acquire);
            self.order(Ordering::Release);
        }
    }

    /// A fence of this ordering.
    #[inline(always)]
    pub fn order(self, ordering: Ordering) {
        #[cfg(loom)]
        if model::is_weakened(self) {
            return;
        }
        fence(ordering);
    }
}

/// How far a sender stores before it has anything to send: as far as there is room, for beyond it lies what the receiver
/// may still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bound {
    /// How many messages of slots it makes its own at a time.
    Owned,
    /// How many of them it takes back later, one after each message.
    TakenBack,
    /// How many there is room for, of which it makes one its own while it waits for an answer.
    Beside,
    /// How many bytes of records it makes its own at a time.
    OwnedBytes,
    /// Up to where there is room for the next record, of which it makes a line its own after each.
    NextRecord,
    /// Up to where there is room for records, of which it makes one its own while it waits for an answer.
    BesideRecord,
}

impl Bound {
    /// Every bound, for the mutation check.
    #[cfg(loom)]
    pub const ALL: [Bound; 6] = [
        Bound::Owned,
        Bound::TakenBack,
        Bound::Beside,
        Bound::OwnedBytes,
        Bound::NextRecord,
        Bound::BesideRecord,
    ];

    /// `messages`, which are within the bound.
    #[inline(always)]
    pub fn of(self, messages: u64) -> u64 {
        #[cfg(not(loom))]
        return messages;
        #[cfg(loom)]
        return messages + u64::from(model::is_loosened(self));
    }

    /// `bytes` of records, which are within the bound. The word behind the last of them is that of the next header, where
    /// nobody reads yet; what is loosened goes one further.
    #[inline(always)]
    pub fn of_bytes(self, bytes: u64) -> u64 {
        #[cfg(not(loom))]
        return bytes;
        #[cfg(loom)]
        return bytes + 16 * u64::from(model::is_loosened(self));
    }
}

/// What can be loaded.
pub trait Load {
    /// What is there.
    type Value;

    /// Loads it.
    fn load(&self, ordering: Ordering) -> Self::Value;
}

macro_rules! load {
    ($name:ty, $int:ty) => {
        impl Load for $name {
            type Value = $int;

            #[inline(always)]
            fn load(&self, ordering: Ordering) -> $int {
                <$name>::load(self, ordering)
            }
        }
    };
}
load!(AtomicU32, u32);
load!(AtomicU64, u64);
load!(Word, u64);

/// Loads `from`, which may be mapped read-only, and orders what follows behind it.
#[cfg(not(loom))]
#[inline(always)]
pub fn acquire<W: Load>(from: &W) -> W::Value {
    let value = from.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

#[cfg(not(loom))]
pub use plain::*;

#[cfg(not(loom))]
mod plain {
    use super::{Edge, Ordering};
    pub use core::sync::atomic::{AtomicU32, AtomicU64, fence};

    /// One word of the data area: a stamp, a record header or eight bytes of payload.
    #[repr(transparent)]
    #[derive(Debug)]
    pub struct Word(AtomicU64);

    impl Word {
        /// Loads a stamp or header.
        #[inline(always)]
        pub fn load(&self, ordering: Ordering) -> u64 {
            self.0.load(ordering)
        }

        /// Stores a stamp or header.
        #[inline(always)]
        pub fn store(&self, value: u64, ordering: Ordering) {
            self.0.store(value, ordering);
        }

        /// Changes a stamp from `from` to `to`; `false` if it is another by now.
        #[inline(always)]
        pub fn change(&self, from: u64, to: u64, (won, lost): (Ordering, Ordering)) -> bool {
            self.0.compare_exchange(from, to, won, lost).is_ok()
        }

        /// Reads eight bytes of payload. Relaxed: the stamp or header orders it.
        #[inline(always)]
        pub fn read(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        /// Writes eight bytes of payload. Relaxed: the stamp or header orders it.
        #[inline(always)]
        pub fn write(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// The notifier's light side of park edge P1: keeps the compiler from moving the look for a
    /// sleeper before the publishing store. The processor is held to it by the waiter's `membarrier`.
    #[inline(always)]
    pub fn light_barrier(_edge: Edge) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// Asks for the line of `word`, to be written soon. Only a hint: any address will do.
    #[inline(always)]
    pub fn prefetch_for_write(word: *const Word) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch has no effect that a program can see; processors without `prefetchw`
        // take it for a no-op.
        #[allow(unsafe_code)]
        unsafe {
            core::arch::asm!(
                "prefetchw [{line}]",
                line = in(reg) word,
                options(nostack, preserves_flags, readonly),
            );
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = word;
    }

    /// Asks for the line of `word`, to be read soon. Only a hint: any address will do.
    #[inline(always)]
    pub fn prefetch_for_read(word: *const Word) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as for `prefetch_for_write`; every x86-64 has `prefetcht0`.
        #[allow(unsafe_code)]
        unsafe {
            core::arch::asm!(
                "prefetcht0 [{line}]",
                line = in(reg) word,
                options(nostack, preserves_flags, readonly),
            );
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = word;
    }

    /// Tells the processor that this is a spin loop.
    #[inline(always)]
    pub fn spin_hint() {
        core::hint::spin_loop();
    }

    /// Waits a moment shorter than a [hint](spin_hint) may take, which differs from processor to processor, and no load
    /// behind it happens before it is over: some twenty cycles.
    #[inline(always)]
    pub fn wait_a_step() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instructions exist on every x86-64 processor and touch no memory.
        #[allow(unsafe_code)]
        unsafe {
            core::arch::asm!(
                "imul {number}, {number}",
                "lfence",
                number = inout(reg) 3_u64 => _,
                options(nostack),
            );
        }
        #[cfg(not(target_arch = "x86_64"))]
        spin_hint();
    }

    /// Whether it makes a difference to wait a moment.
    pub const HAS_TIME: bool = true;
}

#[cfg(loom)]
pub use model::{
    AtomicU32, AtomicU64, HAS_TIME, Word, fence, light_barrier, prefetch_for_read,
    prefetch_for_write, spin_hint,
};

/// loom's stand-ins, and the handles that the models in `loom-tests/` steer them by.
#[cfg(loom)]
pub mod model {
    use super::{Bound, Edge, Ordering};
    use loom::cell::UnsafeCell;
    use std::cell::Cell;
    use std::sync::atomic::AtomicU8;

    static WEAKENED: AtomicU8 = AtomicU8::new(u8::MAX);

    /// Makes `edge` relaxed in every model that runs from now on.
    pub fn weaken(edge: Edge) {
        WEAKENED.store(edge as u8, Ordering::SeqCst);
    }

    pub(super) fn is_weakened(edge: Edge) -> bool {
        WEAKENED.load(Ordering::SeqCst) == edge as u8
    }

    static LOOSENED: AtomicU8 = AtomicU8::new(u8::MAX);

    /// Makes `bound` one too large in every model that runs from now on.
    pub fn loosen(bound: Bound) {
        LOOSENED.store(bound as u8, Ordering::SeqCst);
    }

    pub(super) fn is_loosened(bound: Bound) -> bool {
        LOOSENED.load(Ordering::SeqCst) == bound as u8
    }

    /// What a thread of a model knows of its own end.
    #[derive(Clone, Copy)]
    struct Life {
        /// Atomic accesses made.
        taken: usize,
        /// Atomic accesses that the thread may make.
        allowed: usize,
        /// Whether it was killed: it unwinds, and nothing that it does is seen by anybody.
        dead: bool,
        /// Whether its notifiers do without the light barrier.
        without_light_barrier: bool,
        /// Whether it reads payload that may be overwritten meanwhile, and finds out afterwards.
        reads_at_risk: bool,
        /// From where to where the memory lies that only this thread's role writes.
        own: [(usize, usize); 2],
    }

    const FRESH: Life = Life {
        taken: 0,
        allowed: usize::MAX,
        dead: false,
        without_light_barrier: false,
        reads_at_risk: false,
        own: [(0, 0); 2],
    };

    loom::thread_local! {
        static LIFE: Cell<Life> = Cell::new(FRESH);
    }

    /// What a killed thread unwinds with.
    #[derive(Debug)]
    pub struct Killed;

    /// Lets this process make `accesses` atomic accesses in all; the next one kills it.
    pub fn kill_after(accesses: usize) {
        LIFE.with(|life| life.set(Life { allowed: accesses, ..life.get() }));
    }

    /// How many atomic accesses this thread has made since its last [`process`] began.
    pub fn accesses() -> usize {
        LIFE.with(Cell::get).taken
    }

    /// Takes the notifier's light barrier away from this thread, as it is where the notifier relies on
    /// being told to fence by the waiter.
    pub fn without_light_barrier() {
        LIFE.with(|life| life.set(Life { without_light_barrier: true, ..life.get() }));
    }

    /// Lets this thread read payload that somebody overwrites meanwhile: it looks afterwards whether that was so,
    /// and a word that is torn shows by its value.
    pub fn reads_at_risk(at_risk: bool) {
        LIFE.with(|life| life.set(Life { reads_at_risk: at_risk, ..life.get() }));
    }

    /// Says which memory only this thread writes: a half, and the data if it is the sender.
    ///
    /// loom 0.7 remembers one last access of an atomic, whosesoever it was. If a peer loads a word and
    /// then its owner loads and stores it, the owner's load hides the peer's, and loom never tries the
    /// store before the peer's load. An owner's load of its own word gives what the owner, or its
    /// predecessor, stored last; so does adding zero, and that loom orders against every access.
    pub fn own<T>(half: &T, words: &[Word]) {
        let start = std::ptr::from_ref(half) as usize;
        let half = (start, start + size_of::<T>());
        let words = words.as_ptr_range();
        let own = [half, (words.start as usize, words.end as usize)];
        LIFE.with(|life| life.set(Life { own, ..life.get() }));
    }

    /// Whether only this thread writes the atomic at `place`.
    fn is_own<T>(place: &T) -> bool {
        let place = std::ptr::from_ref(place) as usize;
        LIFE.with(Cell::get).own.iter().any(|&(start, end)| start <= place && place < end)
    }

    /// Runs `body` as a process that may be killed; `None` when it was. The thread goes on as another
    /// process, which is ordered after the first as the kernel orders the next holder of a lock.
    pub fn process<R>(body: impl FnOnce() -> R) -> Option<R> {
        let before = LIFE.with(|life| life.replace(Life { taken: 0, ..life.get() }));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        LIFE.with(|life| life.set(Life { taken: life.get().taken, ..before }));
        match outcome {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Killed>() => None,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Counts one access; unwinds if the thread has used up its last. `false` for a thread that is
    /// unwinding already: destructors run, but they reach nothing.
    #[must_use]
    fn step() -> bool {
        let life = LIFE.with(Cell::get);
        if life.dead {
            return false;
        }
        if life.taken == life.allowed {
            LIFE.with(|own| own.set(Life { dead: true, ..life }));
            std::panic::resume_unwind(Box::new(Killed));
        }
        LIFE.with(|own| own.set(Life { taken: life.taken + 1, ..life }));
        true
    }

    /// A place where a process may be killed without an access of its own: a system call.
    pub fn system_call() {
        let _ = step();
    }

    macro_rules! atomic {
        ($name:ident, $int:ty) => {
            /// loom's atomic, counted.
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                /// A new atomic.
                pub fn new(value: $int) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }
                /// Loads.
                pub fn load(&self, ordering: Ordering) -> $int {
                    if !step() {
                        0
                    } else if is_own(self) {
                        self.0.fetch_add(0, ordering)
                    } else {
                        self.0.load(ordering)
                    }
                }
                /// Stores.
                pub fn store(&self, value: $int, ordering: Ordering) {
                    if step() {
                        self.0.store(value, ordering);
                    }
                }
                /// Adds, wrapping, and gives the value from before.
                pub fn fetch_add(&self, value: $int, ordering: Ordering) -> $int {
                    if step() { self.0.fetch_add(value, ordering) } else { 0 }
                }
                /// Sets the bits of `value`, and gives the value from before.
                pub fn fetch_or(&self, value: $int, ordering: Ordering) -> $int {
                    if step() { self.0.fetch_or(value, ordering) } else { 0 }
                }
                /// Keeps the bits of `value` only, and gives the value from before.
                pub fn fetch_and(&self, value: $int, ordering: Ordering) -> $int {
                    if step() { self.0.fetch_and(value, ordering) } else { 0 }
                }
                /// Puts `value` there, and gives the value from before.
                pub fn swap(&self, value: $int, ordering: Ordering) -> $int {
                    if step() { self.0.swap(value, ordering) } else { 0 }
                }
                /// Changes `from` to `to`; gives the value that was there if that was another.
                pub fn compare_exchange(
                    &self,
                    from: $int,
                    to: $int,
                    won: Ordering,
                    lost: Ordering,
                ) -> Result<$int, $int> {
                    if step() { self.0.compare_exchange(from, to, won, lost) } else { Err(0) }
                }
                /// Loads on behalf of the kernel, which nobody kills.
                pub fn load_in_kernel(&self) -> $int {
                    self.0.load(Ordering::Relaxed)
                }
            }
        };
    }
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    /// One word of the data area, with a cell that tracks who may touch its payload.
    #[derive(Debug)]
    pub struct Word {
        atomic: loom::sync::atomic::AtomicU64,
        tracked: UnsafeCell<()>,
    }

    impl Word {
        /// A new word.
        pub fn new(value: u64) -> Self {
            Self { atomic: loom::sync::atomic::AtomicU64::new(value), tracked: UnsafeCell::new(()) }
        }
        /// Loads a stamp or header.
        pub fn load(&self, ordering: Ordering) -> u64 {
            if !step() {
                0
            } else if is_own(self) {
                self.atomic.fetch_add(0, ordering)
            } else {
                self.atomic.load(ordering)
            }
        }
        /// Stores a stamp or header.
        pub fn store(&self, value: u64, ordering: Ordering) {
            if step() {
                self.atomic.store(value, ordering);
            }
        }
        /// Changes a stamp.
        pub fn change(&self, from: u64, to: u64, (won, lost): (Ordering, Ordering)) -> bool {
            step() && self.atomic.compare_exchange(from, to, won, lost).is_ok()
        }
        /// Reads eight bytes of payload.
        pub fn read(&self) -> u64 {
            if !step() {
                return 0;
            }
            let value = self.atomic.load(Ordering::Relaxed);
            if !LIFE.with(Cell::get).reads_at_risk {
                self.tracked.with(|_| ());
            }
            value
        }
        /// Writes eight bytes of payload.
        pub fn write(&self, value: u64) {
            if step() {
                self.atomic.store(value, Ordering::Relaxed);
                self.tracked.with_mut(|_| ());
            }
        }
    }

    /// loom's fence, counted.
    pub fn fence(ordering: Ordering) {
        if step() {
            loom::sync::atomic::fence(ordering);
        }
    }

    /// loom has no `membarrier`: where there would be one, both sides fence in the model.
    pub fn light_barrier(edge: Edge) {
        if !LIFE.with(Cell::get).without_light_barrier {
            edge.fence();
        }
    }

    /// Nothing that a model could see.
    pub fn prefetch_for_write(_word: *const Word) {}

    /// Nothing that a model could see.
    pub fn prefetch_for_read(_word: *const Word) {}

    /// A model tries every order of things anyway.
    pub const HAS_TIME: bool = false;

    /// Lets the other threads run.
    pub fn spin_hint() {
        if !LIFE.with(Cell::get).dead {
            loom::thread::yield_now();
        }
    }
}
