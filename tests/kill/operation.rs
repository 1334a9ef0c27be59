//! The operations that are killed after each of their instructions.

use std::hint::black_box;

use annulus::{
    ByteReceiver, ByteSender, Pollable, Receiver, Sender, UntypedReceiver, UntypedSender,
};

use super::message::{LONGEST, Tagged, bytes};
use crate::support::ptrace::Child;

/// How many messages a batch has.
pub const BATCH: usize = 3;

/// Words of memory for what a batch receives.
pub const HAND: usize = BATCH * LONGEST / 8;

/// An operation on a handle.
pub struct Operation<H> {
    pub name: &'static str,
    /// How many messages it moves.
    pub messages: u64,
    /// Whether it waits while the ring is full, or empty. How it waits is the matter of `paths`.
    pub blocks: bool,
    /// Whether it copies what it receives straight to the memory that outlives it.
    pub to_hand: bool,
    /// Whether the handle has a thread of its own.
    pub has_thread: bool,
    pub run: Run<H>,
}

/// Prepares the arguments of an operation and runs it as a section. A sending one sends the tags from its third
/// argument on; a receiving one may receive to the memory in its fourth, where the test finds it after the kill.
pub type Run<H> = fn(&Child, &mut H, u64, &mut [u64]);

fn operation<H>(name: &'static str, messages: usize, run: Run<H>) -> Operation<H> {
    Operation {
        name,
        messages: messages as u64,
        blocks: false,
        to_hand: false,
        has_thread: false,
        run,
    }
}

/// Those of `operations` that have the name.
pub fn named<H>(mut operations: Vec<Operation<H>>, name: &str) -> Vec<Operation<H>> {
    operations.retain(|operation| operation.name == name);
    assert!(!operations.is_empty(), "no operation is called {name}");
    operations
}

/// Operations that send messages of a type.
pub fn slot_sends<T: Tagged>() -> Vec<Operation<Sender<T>>> {
    vec![
        operation("try_send", 1, |child, tx, tag, _| {
            let message = T::make(tag);
            let _ = black_box(child.section(|| tx.try_send(message)));
        }),
        Operation {
            blocks: true,
            ..operation("send", 1, |child, tx, tag, _| {
                let message = T::make(tag);
                let _ = black_box(child.section(|| tx.send(message)));
            })
        },
        operation("try_send_batch", BATCH, |child, tx, tag, _| {
            let batch: [T; BATCH] = std::array::from_fn(|i| T::make(tag + i as u64));
            black_box(child.section(|| tx.try_send_batch(&batch)));
        }),
        operation("try_send_from", BATCH, |child, tx, tag, _| {
            let batch: [T; BATCH] = std::array::from_fn(|i| T::make(tag + i as u64));
            black_box(child.section(|| tx.try_send_from(batch)));
        }),
        Operation {
            blocks: true,
            ..operation("send_all", BATCH, |child, tx, tag, _| {
                let batch: [T; BATCH] = std::array::from_fn(|i| T::make(tag + i as u64));
                let _ = black_box(child.section(|| tx.send_all(&batch)));
            })
        },
    ]
}

/// Operations that receive messages of a type.
pub fn slot_receives<T: Tagged>() -> Vec<Operation<Receiver<T>>> {
    vec![
        operation("try_recv", 1, |child, rx, _, _| {
            let _ = black_box(child.section(|| rx.try_recv()));
        }),
        Operation {
            blocks: true,
            ..operation("recv", 1, |child, rx, _, _| {
                let _ = black_box(child.section(|| rx.recv()));
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_recv_batch", BATCH, |child, rx, _, hand| {
                let batch = &mut bytemuck::cast_slice_mut(hand)[..BATCH];
                black_box(child.section(|| rx.try_recv_batch(batch)));
            })
        },
        Operation {
            to_hand: true,
            ..operation("drain", BATCH, |child, rx, _, hand| {
                let places = bytemuck::cast_slice_mut::<u64, T>(hand).iter_mut();
                child.section(|| {
                    for (place, message) in places.zip(rx.drain(BATCH)) {
                        *place = message;
                    }
                });
            })
        },
        Operation {
            blocks: true,
            to_hand: true,
            ..operation("recv_batch", BATCH, |child, rx, _, hand| {
                let batch = &mut bytemuck::cast_slice_mut(hand)[..BATCH];
                let _ = black_box(child.section(|| rx.recv_batch(batch)));
            })
        },
    ]
}

/// Operations that receive messages of a type where others receive, too. What `drain` gives out is taken
/// before it is in hand.
pub fn shared_receives<T: Tagged>() -> Vec<Operation<Receiver<T>>> {
    let mut operations = slot_receives();
    operations.retain(|operation| operation.name != "drain");
    operations.push(Operation {
        to_hand: true,
        ..operation("try_claim, release", 1, |child, rx, _, hand| {
            let hand = &mut bytemuck::cast_slice_mut::<u64, T>(hand)[0];
            child.section(|| {
                if let Ok(message) = rx.try_claim() {
                    *hand = *message;
                    message.release();
                }
            });
        })
    });
    operations.push(operation("try_claim, give back", 0, |child, rx, _, _| {
        child.section(|| {
            if let Ok(message) = rx.try_claim() {
                message.give_back();
            }
        });
    }));
    operations
}

/// A receiver with a descriptor, until it has been closed.
pub type Polled<T> = Option<Pollable<Receiver<T>>>;

/// Gives a receiver a descriptor, and a thread that sleeps for it.
pub fn polled<T: Tagged>(rx: Receiver<T>) -> Polled<T> {
    Some(Pollable::new(rx).expect("a descriptor and a thread more"))
}

/// Operations that receive with a descriptor: one that clears it, and longer ones that end so, or with its thread's end.
pub fn polled_receives<T: Tagged>() -> [Vec<Operation<Polled<T>>>; 2] {
    let with_thread =
        |name, messages, run| Operation { has_thread: true, ..operation(name, messages, run) };
    let arm = with_thread("arm", 0, |child, rx: &mut Polled<T>, _, _| {
        let _ = black_box(child.section(|| rx.as_mut().map(Pollable::arm)));
    });
    let take = with_thread("try_recv, arm", BATCH, |child, rx: &mut Polled<T>, _, _| {
        let rx = rx.as_mut().expect("it is open");
        let _ = child.section(|| {
            for _ in 0..BATCH {
                let _ = black_box(rx.try_recv());
            }
            black_box(rx.arm())
        });
    });
    let close = with_thread("arm, close", 0, |child, rx: &mut Polled<T>, _, _| {
        child.section(|| {
            let _ = black_box(rx.as_mut().map(Pollable::arm));
            drop(rx.take());
        });
    });
    [vec![arm], vec![take, close]]
}

/// Operations that send messages whose type the ring does not know.
pub fn bare_sends<T: Tagged>() -> Vec<Operation<UntypedSender>> {
    vec![
        operation("try_send", 1, |child, tx, tag, _| {
            let message = T::make(tag);
            let message = bytemuck::bytes_of(&message);
            let _ = black_box(child.section(|| tx.try_send(message)));
        }),
        Operation {
            blocks: true,
            ..operation("send", 1, |child, tx, tag, _| {
                let message = T::make(tag);
                let message = bytemuck::bytes_of(&message);
                let _ = black_box(child.section(|| tx.send(message)));
            })
        },
        operation("try_send_batch", BATCH, |child, tx, tag, _| {
            let batch: [T; BATCH] = std::array::from_fn(|i| T::make(tag + i as u64));
            let batch = bytemuck::cast_slice(&batch);
            black_box(child.section(|| tx.try_send_batch(batch)));
        }),
    ]
}

/// Operations that receive messages whose type the ring does not know.
pub fn bare_receives<T: Tagged>() -> Vec<Operation<UntypedReceiver>> {
    vec![
        Operation {
            to_hand: true,
            ..operation("try_recv", 1, |child, rx, _, hand| {
                let hand = bytemuck::cast_slice_mut(hand);
                let _ = black_box(child.section(|| rx.try_recv(hand)));
            })
        },
        Operation {
            blocks: true,
            to_hand: true,
            ..operation("recv", 1, |child, rx, _, hand| {
                let hand = bytemuck::cast_slice_mut(hand);
                let _ = black_box(child.section(|| rx.recv(hand)));
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_recv_batch", BATCH, |child, rx, _, hand| {
                let hand = &mut bytemuck::cast_slice_mut(hand)[..BATCH * size_of::<T>()];
                black_box(child.section(|| rx.try_recv_batch(hand)));
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_peek_batch, skip", BATCH, |child, rx, _, hand| {
                let hand = &mut bytemuck::cast_slice_mut(hand)[..BATCH * size_of::<T>()];
                child.section(|| {
                    let shown = rx.try_peek_batch(hand);
                    rx.skip(shown.unwrap_or(0))
                });
            })
        },
    ]
}

/// Operations that send bytes.
pub fn byte_sends() -> Vec<Operation<ByteSender>> {
    vec![
        operation("try_send", 1, |child, tx, tag, _| {
            let message = bytes(tag);
            let _ = black_box(child.section(|| tx.try_send(&message)));
        }),
        Operation {
            blocks: true,
            ..operation("send", 1, |child, tx, tag, _| {
                let message = bytes(tag);
                let _ = black_box(child.section(|| tx.send(&message)));
            })
        },
        operation("try_reserve, write, commit", 1, |child, tx, tag, _| {
            let message = bytes(tag);
            child.section(|| {
                if let Ok(mut grant) = tx.try_reserve(message.len()) {
                    grant.write(0, &message[..5]);
                    grant.write(5, &message[5..]);
                    grant.commit();
                }
            });
        }),
        Operation {
            blocks: true,
            ..operation("reserve, write, abort", 0, |child, tx, tag, _| {
                let message = bytes(tag);
                child.section(|| {
                    if let Ok(mut grant) = tx.reserve(message.len()) {
                        grant.write(0, &message);
                    }
                });
            })
        },
    ]
}

/// Operations that receive bytes.
pub fn byte_receives() -> Vec<Operation<ByteReceiver>> {
    vec![
        operation("try_recv", 1, |child, rx, _, _| {
            let mut message = Vec::with_capacity(LONGEST);
            let _ = black_box(child.section(|| rx.try_recv(&mut message)));
        }),
        Operation {
            blocks: true,
            ..operation("recv", 1, |child, rx, _, _| {
                let mut message = Vec::with_capacity(LONGEST);
                let _ = black_box(child.section(|| rx.recv(&mut message)));
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_recv_into", 1, |child, rx, _, hand| {
                let hand = bytemuck::cast_slice_mut(hand);
                let _ = black_box(child.section(|| rx.try_recv_into(hand)));
            })
        },
        Operation {
            blocks: true,
            to_hand: true,
            ..operation("claim, copy, release", 1, |child, rx, _, hand| {
                let hand = bytemuck::cast_slice_mut(hand);
                child.section(|| {
                    if let Ok(message) = rx.claim() {
                        message.copy_to(hand);
                        message.release();
                    }
                });
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_peek_batch, skip", BATCH, |child, rx, _, hand| {
                let mut places = bytemuck::cast_slice_mut(hand).chunks_mut(LONGEST);
                child.section(|| {
                    let shown = rx.try_peek_batch(|message| {
                        let place = places.next();
                        place.map(|place| message.copy_to(place)).is_some()
                    });
                    rx.skip(shown.unwrap_or(0))
                });
            })
        },
        Operation {
            to_hand: true,
            ..operation("try_recv_batch", BATCH, |child, rx, _, hand| {
                let mut places = bytemuck::cast_slice_mut(hand).chunks_mut(LONGEST);
                child.section(|| {
                    rx.try_recv_batch(BATCH, |message| {
                        if let Some(place) = places.next() {
                            message.copy_to(place);
                        }
                    })
                });
            })
        },
    ]
}
