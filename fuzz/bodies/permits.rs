//! Semaphores and events: calls in any order against a model, and words, ledgers and witnesses of any content.

use super::effort::Effort;
use super::input::Input;
use annulus::{
    AcquireError, AcquireTimeoutError, Event, EventTimeoutError, Holder, Place, ReleaseError,
    Semaphore, TryAcquireError,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

// From DESIGN.md, "Semaphores".
const WORD: u64 = 8192 + 128;
const TABLE: u64 = 12288;
const ENTRY: u64 = 256;
const CARD: u64 = 128;
const WITNESS: u64 = 160;
const CLOSED: u64 = 1 << 21;
const ABANDONED: u64 = 1 << 20;
const MANY: u64 = 1 << 19;
const WATCHED: u64 = 1 << 18;
const NOTHING: u64 = 3 << 16;
const FREE: u64 = 0xffff;
const REFRESH: u32 = 1 << 30;
const REFRESHING: u32 = 1 << 17;
const ACTIVE: u64 = 1;
const RECEIVES: u64 = 2;
const INCARNATION: u64 = 4;
const PARTICIPANTS: usize = 6;

pub fn permits(data: &[u8]) {
    let input = &mut Input(data);
    match input.byte() % 4 {
        0 => flags(input),
        1 => calls(input),
        _ => damage(input),
    }
}

/// Flags against a word.
fn flags(input: &mut Input<'_>) {
    let event = Event::builder().create(Place::memfd("flags").unwrap()).unwrap();
    let mut handles = [event.handle().unwrap(), event.handle().unwrap()];
    let mut model = 0;
    while !input.is_empty() {
        let choice = input.byte();
        let mask = input.edgy(model);
        let handle = &mut handles[usize::from(choice >> 7)];
        let (any, all) = (model & mask, model & mask == mask);
        let at_once = Duration::ZERO;
        let expected = |found: bool, flags| match found || mask == 0 {
            true => Ok(flags),
            false => Err(EventTimeoutError::Timeout),
        };
        match choice % 7 {
            0 | 1 => {
                handle.raise(mask).unwrap();
                model |= mask;
            }
            2 => {
                assert_eq!(handle.try_take(mask), Ok(any));
                model &= !mask;
            }
            3 => {
                assert_eq!(handle.take_timeout(mask, at_once), expected(any != 0, any));
                model &= !mask;
            }
            4 => {
                handle.clear(mask).unwrap();
                model &= !mask;
            }
            5 => assert_eq!(handle.wait_any_timeout(mask, at_once), expected(any != 0, any)),
            _ => assert_eq!(handle.wait_all_timeout(mask, at_once), expected(all, any)),
        }
        assert_eq!((event.value(), handle.value(), event.stats().value), (model, Ok(model), model));
    }
}

/// Calls of three holders, who come and go, against numbers.
fn calls(input: &mut Input<'_>) {
    let most = 1 + input.below(9) as u32;
    let mut free = input.below(most as usize + 1) as u32;
    let semaphore = Semaphore::counting(most)
        .initial(free)
        .participants(3)
        .create(Place::memfd("permits").unwrap())
        .unwrap();
    let mut holders: [Option<Holder>; 3] = [None, None, None];
    let mut held = [0_u32; 3];
    let mut closed = false;
    while !input.is_empty() {
        let (choice, who) = (input.byte(), input.below(3));
        let count = input.below(12) as u32;
        if choice.is_multiple_of(16) {
            if holders[who].take().is_some() {
                free = (free + held[who]).min(most);
                held[who] = 0;
            }
            assert_eq!(semaphore.value(), Ok(free));
            continue;
        }
        let holder = holders[who].get_or_insert_with(|| semaphore.holder().unwrap());
        let can = !closed && count > 0 && count <= free;
        let why_not = match (count, closed) {
            (0, _) => TryAcquireError::Never { most },
            (count, _) if count > most => TryAcquireError::Never { most },
            (_, true) => TryAcquireError::Closed,
            _ => TryAcquireError::NoPermits,
        };
        match choice % 16 {
            1..=4 => match holder.try_acquire_many(count) {
                Ok(permits) => {
                    assert!(can && !permits.is_abandoned());
                    permits.keep();
                    free -= count;
                    held[who] += count;
                }
                Err(error) => assert!(!can && error == why_not, "{error:?} {why_not:?}"),
            },
            5 | 6 => match holder.acquire_many_timeout(count, Duration::ZERO) {
                Ok(permits) => {
                    assert!(can);
                    drop(permits);
                }
                Err(error) => assert!(!can && error == AcquireTimeoutError::from(why_not)),
            },
            7..=10 => {
                let done = holder.release(count);
                if count > held[who] {
                    assert_eq!(done, Err(ReleaseError::NotHeld { held: held[who] }));
                } else if count > 0 && free + count > most {
                    assert_eq!(done, Err(ReleaseError::TooMany { most }));
                } else {
                    assert_eq!(done, Ok(()));
                    free += count;
                    held[who] -= count;
                }
            }
            11 | 12 => {
                let done = holder.post(count);
                if count > 0 && free + count > most {
                    assert_eq!(done, Err(ReleaseError::TooMany { most }));
                } else {
                    assert_eq!(done, Ok(()));
                    free += count;
                }
            }
            13 => {
                if let Ok(permits) = holder.try_acquire_many(count) {
                    permits.consume();
                    free -= count;
                }
            }
            14 => {
                let zero = holder.wait_zero_timeout(Duration::ZERO);
                let expected = match (free, closed) {
                    (0, _) => Ok(()),
                    (_, true) => Err(AcquireTimeoutError::Closed),
                    _ => Err(AcquireTimeoutError::Timeout),
                };
                assert_eq!(zero, expected);
            }
            _ => {
                if count == 11 {
                    semaphore.close().unwrap();
                    closed = true;
                    assert!(matches!(holder.acquire(), Err(AcquireError::Closed)));
                }
            }
        }
        assert_eq!(holder.held(), held[who]);
        let stats = semaphore.stats();
        assert_eq!((semaphore.value(), stats.value), (Ok(free), free.into()));
        let sum =
            stats.participants.iter().filter(|who| who.alive).map(|who| who.held).sum::<u32>();
        assert_eq!(sum, held.iter().sum::<u32>());
        assert_eq!(stats.repairs, 0);
    }
}

/// What repairs look at.
#[derive(Clone, Debug, PartialEq)]
struct Memory {
    word: u64,
    maximum: u64,
    ledgers: Vec<u64>,
    witnesses: Vec<u64>,
    active: Vec<bool>,
}

impl Memory {
    fn is_sound(&self) -> bool {
        let author = self.word >> 22 & 1023;
        self.word & NOTHING == 0
            && self.word & FREE <= self.maximum
            && (author as usize) < PARTICIPANTS
    }

    fn bear_witness(&mut self, author: usize, change: u32) {
        let said = &mut self.witnesses[author];
        if change.wrapping_sub(*said as u32) as i32 > 0 {
            *said = change.into();
        }
    }

    /// What a repair makes of a dead participant.
    fn resolve(&mut self, victim: usize) {
        let ledger = self.ledgers[victim];
        let change = (ledger >> 32) as u32;
        let (author, last) = ((self.word >> 22 & 1023) as usize, (self.word >> 32) as u32);
        let is_made =
            (author, last) == (victim, change) || self.witnesses[victim] == u64::from(change);
        let held = if is_made { ledger & 0xffff } else { ledger >> 16 & 0xffff };
        if held > 0 {
            if !self.is_sound() {
                return;
            }
            let mut next = change.wrapping_add(1);
            if next % REFRESH < REFRESHING {
                next |= REFRESHING - 1;
                self.bear_witness(victim, change);
            }
            self.ledgers[victim] = u64::from(next) << 32 | held << 16;
            if author != victim {
                self.bear_witness(author, last);
            }
            let free = ((self.word & FREE) + held).min(self.maximum);
            let flags = self.word & (CLOSED | MANY | WATCHED) | ABANDONED;
            self.word = u64::from(next) << 32 | (victim as u64) << 22 | flags | free;
        }
        self.active[victim] = false;
    }
}

/// Any words, any ledgers, any witnesses: somebody joins, by which the dead are resolved exactly as DESIGN.md says,
/// and somebody calls everything there is. It ends, without a panic, and nobody gets a permit that the word does not
/// have. Calls on damage poison the handle.
fn damage(input: &mut Input<'_>) {
    let maximum = 1 + input.below(20) as u32;
    let place = Place::memfd("damage").unwrap();
    let builder = Semaphore::counting(maximum).participants(PARTICIPANTS);
    let semaphore = builder.create(place).unwrap();
    let file = File::from(semaphore.inheritable_fd().unwrap());
    let set = |at: u64, value: u64| file.write_all_at(&value.to_le_bytes(), at).unwrap();
    let get = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let at = |i: usize| TABLE + i as u64 * ENTRY;
    // Two live, with handles that are never used.
    let _living = [semaphore.holder().unwrap(), semaphore.holder().unwrap()];
    let look = || Memory {
        word: get(WORD),
        maximum: maximum.into(),
        ledgers: (0..PARTICIPANTS).map(|i| get(at(i))).collect(),
        witnesses: (0..PARTICIPANTS).map(|i| get(at(i) + WITNESS)).collect(),
        active: (0..PARTICIPANTS).map(|i| get(at(i) + CARD) & ACTIVE != 0).collect(),
    };
    while !input.is_empty() {
        let effort = Effort::begin();
        let change = input.edgy(REFRESH.into()) as u32;
        let author = match input.byte() {
            255 => input.short() as u64 & 1023,
            who => u64::from(who) % PARTICIPANTS as u64,
        };
        let bits = match input.byte() {
            0 => NOTHING & (1 << 16),
            some => u64::from(some & 15) << 18,
        };
        let free = match input.byte() {
            0 => u64::from(input.short()),
            some => u64::from(some) % (u64::from(maximum) + 1),
        };
        set(WORD, u64::from(change) << 32 | author << 22 | bits | free);
        for i in 0..PARTICIPANTS {
            let choice = input.byte();
            let near = |by: u8| change.wrapping_add(u32::from(by % 4)).wrapping_sub(2);
            let ledger = u64::from(near(choice)) << 32;
            let held = |some: u8| u64::from(some) % (u64::from(maximum) + 2);
            let ledger = match choice >> 6 {
                0 => input.edgy(ledger),
                _ => ledger | held(input.byte()) << 16 | held(input.byte()),
            };
            set(at(i), ledger);
            let witness = match input.byte() {
                0 => input.edgy(ledger >> 32),
                some => u64::from(near(some)),
            };
            set(at(i) + WITNESS, witness);
            if i >= 2 {
                let active = if choice & 12 == 0 { 0 } else { ACTIVE };
                let incarnation = INCARNATION * (1 + u64::from(choice));
                set(at(i) + CARD, incarnation | RECEIVES | active);
            }
        }
        let mut expected = look();
        (2..PARTICIPANTS).filter(|&i| look().active[i]).for_each(|i| expected.resolve(i));
        let comes = semaphore.holder();
        let _ = semaphore.stats();
        let mut after = look();
        if comes.is_ok() {
            // It has an entry, which nobody had.
            let its = (2..PARTICIPANTS).find(|&i| after.active[i] && !expected.active[i]);
            after.active[its.expect("it has an entry")] = false;
        }
        assert_eq!(after, expected, "found, expected");
        let Ok(mut holder) = comes else { continue };
        for _ in 0..1 + input.below(4) {
            let (before, count) = (look(), input.below(4) as u32);
            let free = (before.word & FREE) as u32;
            let usable = before.is_sound() && before.word & CLOSED == 0;
            let got = holder.try_acquire_many(count).map(|permits| {
                assert_eq!(semaphore.value(), Ok(free - count));
                let abandoned = permits.is_abandoned();
                if count == 2 {
                    permits.keep();
                }
                abandoned
            });
            match got {
                Ok(abandoned) => {
                    assert!(usable && count > 0 && count <= free, "{before:x?}");
                    assert_eq!(abandoned, before.word & ABANDONED != 0);
                }
                Err(TryAcquireError::Corrupt) => {
                    assert!(!before.is_sound());
                    assert!(matches!(holder.acquire(), Err(AcquireError::Corrupt)));
                    break;
                }
                Err(TryAcquireError::NoPermits) => assert!(count > free),
                Err(_) => {}
            }
            let _ = holder.acquire_many_timeout(count, Duration::ZERO).map(drop);
            let _ = holder.wait_zero_timeout(Duration::ZERO);
            let _ = (holder.post(count), holder.release(count));
        }
        drop(holder);
        effort.check();
    }
}
