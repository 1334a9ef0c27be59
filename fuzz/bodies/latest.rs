//! A variable: calls against a plain one, and then with whatever words others may write.

use super::effort::Effort;
use super::input::Input;
use annulus::{Latest, LatestError, LatestReader, LatestWriter, Place, SetupError};
use bytemuck::Pod;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

// From DESIGN.md, "The latest value".
const PAGE: usize = 4096;
const VALUE: usize = 2 * PAGE;
const TABLE: usize = 3 * PAGE;
const ENTRY: usize = 256;
const DATA: usize = 4 * PAGE;

/// Makes calls of a writer and some readers, who come and go, and asks a plain variable what each must answer. Then
/// somebody writes the words that they share, and calls only have to answer.
pub fn latest(data: &[u8]) {
    let input = &mut Input(data);
    match input.byte() % 3 {
        0 => variable::<u64>(input),
        1 => variable::<[u8; 13]>(input),
        _ => variable::<[u64; 40]>(input),
    }
}

/// The value of a version: every byte tells it from its neighbours.
fn of<T: Pod>(version: u64) -> T {
    let mut value = T::zeroed();
    if version > 0 {
        for (i, byte) in bytemuck::bytes_of_mut(&mut value).iter_mut().enumerate() {
            *byte = (version as u8).wrapping_mul(31).wrapping_add(i as u8);
        }
    }
    value
}

struct Users<T> {
    writer: Option<LatestWriter<T>>,
    readers: Vec<Option<LatestReader<T>>>,
}

fn variable<T: Pod + PartialEq + std::fmt::Debug>(input: &mut Input<'_>) {
    let readers = 1 + input.below(5);
    let builder = Latest::<T>::builder().participants(readers);
    let variable = builder.create(Place::memfd("latest").unwrap()).unwrap();
    let file = File::from(variable.inheritable_fd().unwrap());
    let mut users = Users { writer: None, readers: (0..readers).map(|_| None).collect() };
    let mut version = 0;
    // The first half of the input is for correct users.
    let rest = input.0.len() / 2;
    while input.0.len() > rest {
        correct(input, &variable, &mut users, &mut version);
    }
    while !input.is_empty() {
        let effort = Effort::begin();
        scribble(input, &file, readers, version, size_of::<T>());
        hostile(input, &variable, &mut users);
        effort.check();
    }
}

fn correct<T: Pod + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    variable: &Latest<T>,
    users: &mut Users<T>,
    version: &mut u64,
) {
    let which = input.below(users.readers.len());
    match (input.byte() % 10, &mut users.writer, &mut users.readers[which]) {
        (0, writer @ None, _) => {
            *writer = Some(variable.writer().unwrap());
            assert_eq!(writer.as_ref().unwrap().version(), *version);
        }
        (0, writer, _) => *writer = None,
        (1, _, reader @ None) => *reader = Some(variable.reader().unwrap()),
        (1, _, reader) => *reader = None,
        (2, Some(_), _) => {
            assert!(matches!(variable.writer(), Err(SetupError::RoleTaken { .. })));
        }
        (3, ..) => assert_eq!(variable.peek(), Ok((of(*version), *version))),
        (4, _, Some(reader)) => {
            let than = version.saturating_sub(u64::from(input.byte() % 3));
            let expected = (*version > than).then(|| (of(*version), *version));
            assert_eq!(reader.read_if_newer(than), Ok(expected));
        }
        (5, writer, Some(reader)) => {
            let unread = reader.version() < *version;
            match reader.wait_for_change_timeout(Duration::ZERO) {
                Ok(value) => assert!(unread && value == of(*version)),
                Err(LatestError::Disconnected) => assert!(!unread && writer.is_none()),
                Err(error) => assert!(!unread && error == LatestError::Timeout),
            }
        }
        (6, _, Some(reader)) => assert_eq!(reader.get(), Ok(of(*version))),
        (_, Some(writer), _) => {
            *version += 1;
            assert_eq!(writer.set(of(*version)), Ok(*version));
        }
        _ => {}
    }
}

/// Writes one of the words that users share.
pub(super) fn scribble(
    input: &mut Input<'_>,
    file: &File,
    readers: usize,
    version: u64,
    size: usize,
) {
    let buffers = readers + 2;
    let stamps = buffers.next_multiple_of(16);
    let size = size.div_ceil(8).next_multiple_of(16);
    let word = version << 11 | input.below(2 * buffers) as u64;
    let offset = match input.byte() % 6 {
        0 | 1 => VALUE,
        2 | 3 => TABLE + input.below(readers) * ENTRY,
        4 => DATA + input.below(buffers) * 8,
        _ => DATA + (stamps + input.below(buffers * size)) * 8,
    };
    let value = match input.byte() % 4 {
        0 => u64::MAX,
        1 => word,
        _ => input.edgy(word),
    };
    file.write_all_at(&value.to_le_bytes(), offset as u64).unwrap();
}

fn hostile<T: Pod>(input: &mut Input<'_>, variable: &Latest<T>, users: &mut Users<T>) {
    let which = input.below(users.readers.len());
    let reader = &mut users.readers[which];
    match input.byte() % 8 {
        0 => users.writer = None,
        1 => *reader = None,
        2 if users.writer.is_none() => users.writer = variable.writer().ok(),
        3 if reader.is_none() => *reader = variable.reader().ok(),
        4 => {
            let _ = (variable.peek(), variable.stats());
        }
        5 => {
            let _ = reader.as_mut().map(|rx| rx.wait_for_change_timeout(Duration::ZERO));
        }
        6 => {
            let _ = reader.as_mut().map(|rx| (rx.get().is_ok(), rx.read_if_newer(3).is_ok()));
        }
        _ => {
            let _ = users.writer.as_mut().map(|tx| tx.set(T::zeroed()));
        }
    }
}
