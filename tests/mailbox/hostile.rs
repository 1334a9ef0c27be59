//! Any words at all, anywhere in the segment but in its header: errors or messages, and nothing worse.

use annulus::{MailRecvError, MailSendError, Mailbox, Place, Select};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const TYPES: usize = 2;
const CAPACITY: usize = 2;
const LONGEST: usize = 16;
const SHORT: Duration = Duration::from_micros(200);
/// Where all meet, the participants, and the lanes: everything behind the header.
const START: u64 = 4096;

/// A word that means something somewhere, or anything.
fn word() -> impl Strategy<Value = u64> {
    let stamp = (0..12_u64, 0..8_u64).prop_map(|(position, state)| position << 11 | state);
    let near_the_end = (0..4_u64).prop_map(|back| u64::MAX - back);
    let number = 0..64_u64;
    let intent = (0..12_u64, 0..4_u64).prop_map(|(position, count)| position << 8 | count);
    prop_oneof![stamp, near_the_end, number, intent, any::<u64>()]
}

/// Words that somebody reads, each a multiple of 8 behind the start of a page.
fn offset(pages: u64) -> impl Strategy<Value = u64> {
    let line = prop_oneof![0..4_u64, 16..20_u64, 32..36_u64, 0..512_u64];
    (0..pages, line).prop_map(|(page, word)| START + page * 4096 + word * 8)
}

fn attack(file: &File, size: u64, words: &[(u64, u64)]) {
    for (offset, word) in words {
        let offset = START + (offset - START) % (size - START);
        file.write_all_at(&word.to_le_bytes(), offset).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_worse_than_an_error(
        rounds in prop::collection::vec(
            prop::collection::vec((offset(16), word()), 0..24), 1..4,
        ),
        kind in 1..=TYPES as u8,
        index in 0..8_usize,
    ) {
        let builder = Mailbox::builder(CAPACITY, LONGEST).types(TYPES).participants(4);
        let mailbox = builder.create(Place::memfd("hostile").unwrap()).unwrap();
        let file = File::from(mailbox.inheritable_fd().unwrap());
        let size = file.metadata().unwrap().len();
        let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
        let mut listener = mailbox.subscribe(Select::Any).unwrap();
        let mut buffer = [0; LONGEST];
        tx.try_send(kind, b"before").unwrap();
        for words in &rounds {
            attack(&file, size, words);
            let sent = [
                tx.try_send(kind, b"message"),
                tx.send_timeout(kind, b"message", SHORT),
            ];
            for error in sent.into_iter().filter_map(Result::err) {
                let known = matches!(
                    error,
                    MailSendError::Full
                        | MailSendError::Timeout
                        | MailSendError::Removed
                        | MailSendError::Corrupt
                );
                prop_assert!(known, "{}", error);
            }
            let selections = [
                Select::Any, Select::Type(kind), Select::AtMost(kind), Select::Except(kind), Select::Highest,
            ];
            for select in selections {
                let mut shown = 0;
                let _ = rx.try_peek_batch(select, |peek| {
                    shown += 1;
                    let _ = peek.copy_to(&mut buffer);
                    true
                });
                prop_assert!(shown <= CAPACITY * TYPES);
                let received = [
                    rx.try_peek(select, index, &mut buffer),
                    rx.try_peek(select, usize::MAX, &mut buffer),
                    rx.try_recv(select, &mut buffer),
                    rx.recv_timeout(select, &mut buffer, SHORT),
                ];
                for received in received {
                    match received {
                        Ok(letter) => prop_assert!(letter.length <= LONGEST),
                        Err(
                            MailRecvError::Empty
                            | MailRecvError::Timeout
                            | MailRecvError::Removed
                            | MailRecvError::Corrupt,
                        ) => {}
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
            }
            let _ = listener.try_wait();
            let _ = listener.wait_timeout(SHORT);
            prop_assert!(mailbox.len() <= CAPACITY * TYPES);
            let _ = (mailbox.stats(), mailbox.len_of(kind), mailbox.is_removed());
            // Whoever comes now resolves what the dead seem to have left.
            let _ = (mailbox.sender().err(), mailbox.receiver().err());
        }
        let there = Mailbox::from_fd(OwnedFd::from(file));
        let _ = there.map(|there| there.remove());
    }
}
