//! Messages of every shape, in rings of every size, from positions around the ends of words: calls in any order against a
//! queue. The fuzz bodies do more kinds of calls with fewer shapes.

use annulus::{
    ByteReceiver, ByteRing, ByteSendError, ByteSender, Place, Receiver, RecvIntoError, Ring,
    Sender, TryRecvError, TrySendError,
};
use bytemuck::{Pod, Zeroable};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const RECEIVER: u64 = 4096;
const RELEASED: u64 = 4096 + 128;
const SENDER: u64 = 8192;
/// Where the last rings begin: nobody joins beyond 2⁶¹, and a run takes less than the rest.
const HIGHEST: u64 = (u64::MAX >> 3) - (1 << 30);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(128))]
struct Pair([u8; 128]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(16))]
struct Vector([u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(16))]
struct Vectors([u8; 48]);

/// Decisions out of numbers, of which the last one comes again and again.
struct Choices<'a>(std::slice::Iter<'a, u32>, u32);

impl Choices<'_> {
    fn next(&mut self) -> Option<u32> {
        let &next = self.0.next()?;
        self.1 = next;
        Some(next)
    }

    fn below(&mut self, end: usize) -> usize {
        let next = self.next().unwrap_or(self.1);
        next as usize % end
    }
}

/// The `n`-th message: every byte tells it from its neighbours.
fn nth<T: Pod>(n: u64) -> T {
    let mut message = T::zeroed();
    for (i, byte) in bytemuck::bytes_of_mut(&mut message).iter_mut().enumerate() {
        *byte = (n as u8).wrapping_mul(31).wrapping_add((n >> 8) as u8).wrapping_add(i as u8) | 1;
    }
    message
}

/// Has a ring that nobody has used yet begin there.
fn begin(segment: OwnedFd, position: u64) {
    let file = File::from(segment);
    for word in [RECEIVER, RELEASED, SENDER] {
        file.write_all_at(&position.to_le_bytes(), word).unwrap();
    }
}

/// What an iterator or a closure of a program's ends with, in the middle.
#[derive(Debug)]
struct Stop;

/// Runs what stops in the middle.
fn stopped<R>(body: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<Stop>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

fn stop() -> ! {
    resume_unwind(Box::new(Stop))
}

/// Some messages, then none, and then more; or, at the end of the first ones, the end of the program. It lies about how many.
struct Few<T> {
    next: u64,
    left: usize,
    stops: bool,
    lie: (usize, Option<usize>),
    taken: usize,
    message: std::marker::PhantomData<T>,
}

impl<T: Pod> Iterator for Few<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            if self.stops {
                stop();
            }
            self.left = usize::MAX;
            return None;
        }
        self.left -= 1;
        self.taken += 1;
        self.next += 1;
        Some(nth(self.next - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lie
    }
}

fn slots<T: Pod + PartialEq + std::fmt::Debug>(capacity: usize, position: u64, choices: &[u32]) {
    let ring = Ring::<T>::builder(capacity).create(Place::memfd("shapes").unwrap()).unwrap();
    begin(ring.inheritable_fd().unwrap(), position);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let (mut sent, mut received) = (0, 0);
    let choices = &mut Choices(choices.iter(), 0);
    while let Some(choice) = choices.next() {
        let (room, waiting) = (capacity - (sent - received) as usize, (sent - received) as usize);
        let some = |count: usize| (0..count as u64).map(|i| nth(sent + i)).collect::<Vec<T>>();
        match choice % 16 {
            0 | 1 => {
                for _ in 0..choices.below(20) {
                    match tx.try_send(nth(sent)) {
                        Ok(()) => sent += 1,
                        Err(TrySendError::Full(_)) => break,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                assert!(sent - received <= capacity as u64);
            }
            2 => {
                let batch = some(choices.below(3 * capacity + 2));
                assert_eq!(tx.try_send_batch(&batch), batch.len().min(room));
                sent += batch.len().min(room) as u64;
            }
            3 => {
                let batch = some(choices.below(room + 1));
                tx.send_all(&batch).unwrap();
                sent += batch.len() as u64;
            }
            4..=6 => {
                let there = choices.below(2 * capacity + 20);
                let lie = match choices.below(4) {
                    0 => (0, Some(0)),
                    1 => (usize::MAX, None),
                    _ => (there, Some(there)),
                };
                let (stops, message) = (choices.below(5) == 0, std::marker::PhantomData);
                let mut source =
                    Few::<T> { next: sent, left: there, stops, lie, taken: 0, message };
                let count = stopped(|| tx.try_send_from(&mut source));
                match count {
                    // At least what was published before, if not all.
                    Some(count) => {
                        assert_eq!(count, source.taken, "what was taken is sent");
                        assert!(count <= room.min(there));
                        assert!(count > 0 || room == 0 || there == 0);
                        sent += count as u64;
                    }
                    None => assert!(stops && there < room.max(1)),
                }
            }
            7 => {
                drop(tx);
                tx = ring.sender().unwrap();
            }
            8 | 9 => {
                for _ in 0..choices.below(20) {
                    match rx.try_recv() {
                        Ok(message) => assert_eq!(message, nth(received)),
                        Err(error) => {
                            assert_eq!((error, sent), (TryRecvError::Empty, received));
                            break;
                        }
                    }
                    received += 1;
                }
            }
            10 => {
                let mut batch = vec![T::zeroed(); choices.below(2 * capacity + 2)];
                let count = rx.try_recv_batch(&mut batch);
                assert_eq!(count, waiting.min(batch.len()));
                assert_eq!(batch[..count], some_from(received, count));
                received += count as u64;
            }
            11..=14 => {
                let most = choices.below(2 * capacity + 2);
                let expected = waiting.min(most);
                let (by_next, by_fold) = (choices.below(9), choices.below(2 * capacity + 9));
                let forgets = choices.below(16) == 0;
                let mut drain = rx.drain(most);
                let mut got: Vec<T> = drain.by_ref().take(by_next).collect();
                assert_eq!(got.len(), by_next.min(expected));
                if forgets {
                    std::mem::forget(drain);
                    assert_eq!(got, some_from(received, got.len()));
                    // Some of them come again.
                    if let Ok(message) = rx.try_recv() {
                        let is_next = |at: &u64| message == nth(*at);
                        let next = (received..=received + got.len() as u64).find(is_next);
                        received = next.expect("none is left out") + 1;
                    } else {
                        assert_eq!(received + got.len() as u64, sent);
                        received = sent;
                    }
                    continue;
                }
                stopped(|| {
                    drain.for_each(|message| {
                        got.push(message);
                        if got.len() > by_fold {
                            stop();
                        }
                    });
                });
                assert!(
                    got.len() == expected || got.len() == by_fold + 1 || got.len() == by_next + 1
                );
                assert_eq!(got, some_from(received, got.len()));
                received += got.len() as u64;
            }
            _ => {
                drop(rx);
                rx = ring.receiver().unwrap();
            }
        }
        let stats = ring.stats();
        assert_eq!(stats.sent, position + sent);
        assert!(stats.received <= position + received);
    }
    finish(&mut tx, &mut rx, sent, received);
}

fn some_from<T: Pod>(from: u64, count: usize) -> Vec<T> {
    (0..count as u64).map(|i| nth(from + i)).collect()
}

/// All that is there comes, and then a ring full of others.
fn finish<T: Pod + PartialEq + std::fmt::Debug>(
    tx: &mut Sender<T>,
    rx: &mut Receiver<T>,
    sent: u64,
    received: u64,
) {
    let rest: Vec<T> = rx.try_iter().collect();
    assert_eq!(rest, some_from(received, (sent - received) as usize));
    let capacity = tx.capacity();
    let all = || (0..).map(|i| nth(sent + i));
    let mut full = 0;
    while full < capacity {
        let count = tx.try_send_from(all().skip(full));
        assert!(count > 0);
        full += count;
    }
    assert!(matches!(tx.try_send(T::zeroed()), Err(TrySendError::Full(_))));
    assert_eq!(rx.drain(usize::MAX).collect::<Vec<T>>(), some_from(sent, capacity));
}

type Body = fn(usize, u64, &[u32]);

const SHAPES: [Body; 33] = [
    slots::<u8>,
    slots::<[u8; 2]>,
    slots::<[u8; 3]>,
    slots::<[u8; 7]>,
    slots::<u64>,
    slots::<[u8; 9]>,
    slots::<[u32; 3]>,
    slots::<Vector>,
    slots::<[u64; 2]>,
    slots::<[u8; 17]>,
    slots::<[u64; 3]>,
    slots::<[u8; 25]>,
    slots::<[u64; 4]>,
    slots::<Vectors>,
    slots::<[u64; 6]>,
    slots::<[u8; 55]>,
    slots::<[u8; 56]>,
    slots::<[u8; 57]>,
    slots::<[u8; 63]>,
    slots::<Line>,
    slots::<[u8; 65]>,
    slots::<[u64; 9]>,
    slots::<[u32; 19]>,
    slots::<Pair>,
    slots::<[u64; 16]>,
    slots::<[u8; 257]>,
    slots::<[u64; 59]>,
    slots::<[u64; 60]>,
    slots::<[u64; 61]>,
    slots::<[u64; 120]>,
    slots::<[u64; 121]>,
    slots::<[u8; 4099]>,
    slots::<[u64; 1025]>,
];

/// Lengths around those from which on messages are copied in another way.
fn length(choices: &mut Choices<'_>, longest: usize) -> usize {
    const EDGES: [usize; 12] =
        [0, 8, 64, 128, 256, 512, 2048, 4096, 8192, 12 * 1024, 16 * 1024, 20 * 1024];
    let length = match choices.below(8) {
        0 => choices.below(longest + 1),
        1 => longest.saturating_sub(choices.below(20)),
        2 => longest / 2 + choices.below(20),
        _ => (EDGES[choices.below(EDGES.len())] + choices.below(40)).saturating_sub(20),
    };
    length.min(longest)
}

fn bytes_of(n: u64, length: usize) -> Vec<u8> {
    (0..length).map(|i| (n as u8).wrapping_mul(37).wrapping_add((i + i / 251) as u8) | 1).collect()
}

fn bytes(capacity: usize, position: u64, choices: &[u32]) {
    let ring = ByteRing::builder(capacity).create(Place::memfd("shapes").unwrap()).unwrap();
    begin(ring.inheritable_fd().unwrap(), position / 8 * 8);
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
    let mut sent = 0;
    let choices = &mut Choices(choices.iter(), 0);
    while let Some(choice) = choices.next() {
        match choice % 8 {
            0..=3 => {
                let message = bytes_of(sent, length(choices, capacity));
                if send_bytes(&mut tx, &message, choices) {
                    queue.push_back(message);
                    sent += 1;
                } else if queue.is_empty() {
                    // It fits when what is left of the lap has been passed over.
                    assert_eq!(rx.try_recv(&mut Vec::new()), Err(TryRecvError::Empty));
                    tx.try_send(&message).unwrap();
                    queue.push_back(message);
                    sent += 1;
                }
            }
            4..=6 => receive_bytes(&mut rx, &mut queue, choices),
            _ if choice & 8 == 0 => {
                drop(tx);
                tx = ring.sender().unwrap();
            }
            _ => {
                drop(rx);
                rx = ring.receiver().unwrap();
            }
        }
    }
    while let Some(message) = queue.pop_front() {
        assert_eq!(rx.try_claim().unwrap().to_vec(), message);
    }
    assert!(rx.try_claim().is_err());
}

/// Whether there was room.
fn send_bytes(tx: &mut ByteSender, message: &[u8], choices: &mut Choices<'_>) -> bool {
    let grant = match choices.below(4) {
        0 => {
            let mut grant = match tx.try_reserve(message.len()) {
                Ok(grant) => grant,
                Err(error) => {
                    assert_eq!(error, ByteSendError::Full);
                    return false;
                }
            };
            // In pieces, in any order, and some of them twice.
            let (a, b) = (choices.below(message.len() + 1), choices.below(message.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            for (start, end) in [(b, message.len()), (a, b), (0, b), (a, message.len())] {
                grant.write(start, &message[start..end]);
            }
            grant
        }
        1 => {
            // Longer than what is sent then, and given up.
            let most = tx.max_message();
            let longer = (message.len() + choices.below(300)).min(most);
            if let Ok(mut grant) = tx.try_reserve(longer) {
                grant.write(0, &vec![0xff; longer]);
            }
            match tx.try_reserve(message.len()) {
                Ok(mut grant) => {
                    // SAFETY: nobody else accesses it.
                    unsafe { grant.as_mut_slice() }.copy_from_slice(message);
                    grant
                }
                Err(error) => {
                    assert_eq!(error, ByteSendError::Full);
                    return false;
                }
            }
        }
        _ => {
            let done = tx.try_send(message);
            assert!(matches!(done, Ok(()) | Err(ByteSendError::Full)));
            return done.is_ok();
        }
    };
    grant.commit();
    true
}

fn receive_bytes(rx: &mut ByteReceiver, queue: &mut VecDeque<Vec<u8>>, choices: &mut Choices<'_>) {
    match choices.below(6) {
        0 | 1 => {
            let mut message = vec![1; choices.below(9)];
            match rx.try_recv(&mut message) {
                Ok(length) => {
                    assert_eq!((length, Some(message)), (message_length(queue), queue.pop_front()));
                }
                Err(error) => assert_eq!((error, queue.len()), (TryRecvError::Empty, 0)),
            }
        }
        2 => {
            let mut buffer = vec![0x5a; length(choices, message_length(queue) + 40)];
            match rx.try_recv_into(&mut buffer) {
                Ok(length) => {
                    assert_eq!(Some(buffer[..length].to_vec()), queue.pop_front());
                    assert!(buffer[length..].iter().all(|&byte| byte == 0x5a));
                }
                Err(RecvIntoError::TooSmall { len }) => {
                    assert_eq!(len, message_length(queue));
                    assert!(buffer.len() < len && buffer.iter().all(|&byte| byte == 0x5a));
                }
                Err(error) => assert_eq!((error, queue.len()), (RecvIntoError::Empty, 0)),
            }
        }
        3 => {
            let most = choices.below(5);
            let count = rx.try_recv_batch(most, |message| {
                let expected = queue.pop_front().unwrap();
                let at = (expected.len() / 3).min(expected.len());
                let mut part = vec![0; expected.len() - at];
                message.copy_to(&mut vec![0; expected.len()]);
                part.copy_from_slice(&message.to_vec()[at..]);
                assert_eq!(part, expected[at..]);
            });
            assert!(count == most || queue.is_empty());
        }
        4 => {
            let most = 1 + choices.below(5);
            let mut seen = Vec::new();
            let count = rx.try_peek_batch(|peek| {
                let mut message = vec![0; peek.len()];
                peek.copy_to(&mut message);
                seen.push(message);
                seen.len() <= most
            });
            match count {
                Ok(count) => {
                    assert_eq!(count, most.min(queue.len()));
                    assert!(seen.iter().eq(queue.iter().take(seen.len())));
                    let skipped = choices.below(count + 1);
                    assert_eq!(rx.skip(skipped), skipped);
                    queue.drain(..skipped);
                }
                Err(error) => assert_eq!((error, queue.len()), (TryRecvError::Empty, 0)),
            }
        }
        _ => {
            // Stops in the middle: the message at hand is taken.
            let most = choices.below(5);
            let mut count = 0;
            let done = stopped(|| {
                rx.try_recv_batch(9, |message| {
                    assert_eq!(message.to_vec(), queue[count]);
                    count += 1;
                    if count > most {
                        stop();
                    }
                })
            });
            assert!(done.is_none() || done == Some(count));
            queue.drain(..count);
        }
    }
}

fn message_length(queue: &VecDeque<Vec<u8>>) -> usize {
    queue.front().map_or(0, Vec::len)
}

fn position() -> impl Strategy<Value = u64> {
    let ends = [0, 1 << 16, 1 << 31, 1 << 32, 1 << 53, 1 << 56, 1 << 60];
    let near = |end: u64| (0..300_u64).prop_map(move |by| end.saturating_sub(by));
    prop_oneof![
        prop::sample::select(ends.to_vec()).prop_flat_map(near),
        (0..300_u64).prop_map(|by| HIGHEST - by),
    ]
}

fn capacity() -> impl Strategy<Value = usize> {
    prop_oneof![1..20_usize, 1..300_usize]
}

fn byte_capacity() -> impl Strategy<Value = usize> {
    let edges = vec![64, 256, 512, 2048, 4096, 8192, 12 * 1024, 16 * 1024, 64 * 1024];
    let near = |edge: usize| (edge.saturating_sub(30)..edge + 30).prop_filter("some", |&at| at > 0);
    prop_oneof![1..100_usize, prop::sample::select(edges).prop_flat_map(near), 1..70_000_usize]
}

/// More of them by the environment, for a longer look.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.unwrap_or(300)) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn messages_of_every_shape_pass(
        shape in 0..SHAPES.len(),
        capacity in capacity(),
        position in position(),
        choices in prop::collection::vec(any::<u32>(), 0..300),
    ) {
        SHAPES[shape](capacity, position, &choices);
    }

    #[test]
    fn bytes_of_every_length_pass(
        capacity in byte_capacity(),
        position in position(),
        choices in prop::collection::vec(any::<u32>(), 0..300),
    ) {
        bytes(capacity, position, &choices);
    }
}

/// Eight of them would not fit on the stack, as eight small ones do that share a line.
#[test]
fn large_messages_are_sent_from_a_small_stack() {
    type Large = [u64; 6 * 1024];
    let ring = Ring::<Large>::builder(2).create(Place::memfd("large").unwrap()).unwrap();
    let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        assert_eq!(tx.try_send_from(std::iter::repeat_n([7; _], 3)), 2);
        assert_eq!(rx.drain(5).filter(|message| message == &[7; _]).count(), 2);
    });
    thread.unwrap().join().unwrap();
}
