//! Attaching to anything.

use super::input::Input;
use annulus::inspect::Snapshot;
use annulus::{
    Broadcast, ByteBroadcast, ByteRing, Delivery, Event, Latest, Mailbox, Place, Ring, Select,
    Semaphore, SetupError, Start, Stream, UntypedLatest, UntypedRing,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PAGE: usize = 4096;

/// Makes a file out of `data` and opens it in every way: by path and by descriptor, as every kind of
/// ring. What opens is used.
pub fn attach(data: &[u8]) {
    let input = &mut Input(data);
    let image = image(input);
    by_path(&image);
    by_descriptor(&image);
}

/// The bytes of a file: any, or those of a ring with some of its words changed.
fn image(input: &mut Input<'_>) -> Vec<u8> {
    let choice = input.byte();
    if choice % 8 == 7 {
        let mut bytes = input.0.to_vec();
        if choice & 0x80 != 0 {
            bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        }
        return bytes;
    }
    let capacity = 1 + input.below(64);
    let label = if choice & 0x40 != 0 { "label/1" } else { "" };
    let place = || Place::memfd("image").unwrap();
    let made = match choice % 4 {
        2 if choice & 0x20 != 0 => {
            let semaphore = Semaphore::counting(capacity as u32).create(place()).unwrap();
            semaphore.holder().unwrap().try_acquire().unwrap().consume();
            semaphore.inheritable_fd()
        }
        3 if choice & 0x20 != 0 => Event::builder().create(place()).unwrap().inheritable_fd(),
        0 if choice & 0x20 != 0 => {
            let variable = Latest::<u64>::builder().label(label).participants(3);
            let variable = variable.create(place()).unwrap();
            variable.writer().unwrap().set(7).unwrap();
            variable.inheritable_fd()
        }
        1 if choice & 0x20 != 0 => {
            let broadcast = Broadcast::<u64>::builder(capacity).label(label).participants(3);
            let broadcast = broadcast.create(place()).unwrap();
            broadcast.sender().unwrap().try_send_batch(&vec![7; capacity]);
            broadcast.inheritable_fd()
        }
        0 if choice & 0x10 != 0 => {
            let mailbox = Mailbox::builder(1 + capacity % 4, 20).label(label).types(3);
            let mailbox = mailbox.participants(4).create(place()).unwrap();
            mailbox.sender().unwrap().try_send(2, b"message").unwrap();
            mailbox.inheritable_fd()
        }
        1 if choice & 0x10 != 0 => {
            let broadcast = ByteBroadcast::builder(capacity, 20).label(label).participants(3);
            let broadcast = broadcast.create(place()).unwrap();
            broadcast.sender().unwrap().try_send(b"message").unwrap();
            broadcast.inheritable_fd()
        }
        2 if choice & 0x10 != 0 => {
            let variable = UntypedLatest::builder(capacity).label(label).participants(3);
            let variable = variable.create(place()).unwrap();
            variable.writer().unwrap().set(&vec![7; capacity]).unwrap();
            variable.inheritable_fd()
        }
        0 => {
            let ring = Ring::<u64>::builder(capacity).label(label).create(place()).unwrap();
            ring.sender().unwrap().try_send_batch(&vec![7; capacity / 2]);
            ring.inheritable_fd()
        }
        1 => {
            let ring = ByteRing::builder(capacity * 16).label(label).create(place()).unwrap();
            let _ = ring.sender().unwrap().try_send(b"some bytes");
            ring.inheritable_fd()
        }
        2 => Ring::<[u8; 12]>::builder(capacity)
            .persistent(true)
            .create(place())
            .unwrap()
            .inheritable_fd(),
        _ => Ring::<[u64; 9]>::builder(capacity)
            .prefault(false)
            .create(place())
            .unwrap()
            .inheritable_fd(),
    };
    let file = File::from(made.unwrap());
    let size = file.metadata().unwrap().len() as usize;
    let mut image = vec![0; size];
    file.read_exact_at(&mut image, 0).unwrap();
    if input.byte().is_multiple_of(8) {
        let size = input.below(8 * PAGE);
        image.resize(if choice & 0x80 != 0 { size } else { size / PAGE * PAGE }, 0);
    }
    while !input.is_empty() && image.len() >= 8 {
        // Mostly the header's words and those of the halves that somebody reads.
        let offset = match input.byte() % 4 {
            0 | 1 => input.below(20) * 8,
            2 => PAGE * (1 + input.below(2)) + input.below(64) * 8,
            _ => input.below(image.len()),
        };
        let offset = offset.min(image.len() - 8);
        let before = u64::from_le_bytes(image[offset..offset + 8].try_into().unwrap());
        let value = input.edgy(before);
        image[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    image
}

fn by_path(image: &[u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("annulus-fuzz-{}-{number}", std::process::id());
    let path = &Path::new("/dev/shm").join(name);
    let write = |image: &[u8]| {
        let mut options = File::options();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(image).unwrap();
    };
    let place = || Place::path(path).unwrap();
    // A ring that is not persistent is removed when it was opened and left.
    write(image);
    let looked = Snapshot::open(&place());
    if let Ok(snapshot) = &looked {
        assert_eq!(snapshot.size, image.len() as u64);
        assert!(snapshot.capacity > 0);
    }
    let opened = use_ring(Ring::<u64>::open(place()), image.len());
    write(image);
    let opened = opened | use_ring(Ring::<[u64; 9]>::open(place()), image.len());
    write(image);
    let opened = opened | use_bytes(ByteRing::open(place()), image.len());
    write(image);
    let opened = opened | use_untyped(UntypedRing::open(place()), image.len());
    write(image);
    let opened = opened | use_semaphore(Semaphore::open(place()));
    write(image);
    let opened = opened | use_event(Event::open(place()));
    let opened = opened | use_latest(Latest::<u64>::open(place()));
    write(image);
    let opened = opened | use_broadcast(Broadcast::<u64>::open(place()), image.len());
    write(image);
    let opened = opened | use_byte_broadcast(ByteBroadcast::open(place()), image.len());
    write(image);
    let opened = opened | use_untyped_latest(UntypedLatest::open(place()), image.len());
    write(image);
    let opened = opened | use_mailbox(Mailbox::open(place()), image.len());
    write(image);
    let opened = opened | use_stream(Stream::open(place()));
    assert!(looked.is_ok() || !opened, "what can be opened can be looked at");
    write(image);
    let label = Ring::<u64>::attach().label("label/1").mode(0o777).owner(0).open(place());
    if let Ok(ring) = label {
        assert_eq!(ring.label(), "label/1");
    }
    let _ = std::fs::remove_file(path);
}

fn by_descriptor(image: &[u8]) {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("image", flags).unwrap());
    file.write_all(image).unwrap();
    let again = |file: &File| -> OwnedFd { file.as_fd().try_clone_to_owned().unwrap() };
    assert!(Ring::<u64>::from_fd(again(&file)).is_err(), "an unsealed file was believed");
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    // Each sees what the one before has left.
    use_ring(Ring::<u64>::from_fd(again(&file)), image.len());
    use_ring(Ring::<[u8; 12]>::from_fd(again(&file)), image.len());
    use_bytes(ByteRing::from_fd(again(&file)), image.len());
    use_untyped(UntypedRing::from_fd(again(&file)), image.len());
    use_semaphore(Semaphore::from_fd(again(&file)));
    use_event(Event::from_fd(again(&file)));
    use_latest(Latest::<u64>::from_fd(again(&file)));
    use_broadcast(Broadcast::<u64>::from_fd(again(&file)), image.len());
    use_byte_broadcast(ByteBroadcast::from_fd(again(&file)), image.len());
    use_untyped_latest(UntypedLatest::from_fd(again(&file)), image.len());
    use_mailbox(Mailbox::from_fd(again(&file)), image.len());
    use_stream(Stream::from_fd(again(&file)));
}

/// Looks at the error's sentence, which must not be empty, and gives what was opened.
fn opened<R>(result: Result<R, SetupError>) -> Option<R> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

fn use_ring<T: bytemuck::Pod>(ring: Result<Ring<T>, SetupError>, size: usize) -> bool {
    let Some(ring) = opened(ring) else { return false };
    assert!(ring.capacity() * size_of::<T>() <= size, "more capacity than bytes");
    let _ = (ring.stats(), ring.label().len());
    let (tx, rx) = (opened(ring.sender()), opened(ring.receiver()));
    if let Some(mut tx) = tx {
        let _ = tx.try_send(T::zeroed());
        let _ = tx.send_timeout(T::zeroed(), Duration::ZERO);
        let _ = (tx.try_send_batch(&[T::zeroed(); 9]), tx.len());
    }
    if let Some(mut rx) = rx {
        let _ = rx.try_recv();
        let _ = rx.recv_timeout(Duration::ZERO);
        let _ = (rx.try_recv_batch(&mut [T::zeroed(); 100]), rx.len());
    }
    true
}

fn use_bytes(ring: Result<ByteRing, SetupError>, size: usize) -> bool {
    let Some(ring) = opened(ring) else { return false };
    assert!(ring.capacity() <= size, "more capacity than bytes");
    let (tx, rx) = (opened(ring.sender()), opened(ring.receiver()));
    if let Some(mut tx) = tx {
        let _ = tx.try_send(b"message");
        let _ = tx.try_send(&vec![1; tx.max_message()]);
        let _ = tx.try_reserve(5).map(|grant| grant.commit());
    }
    if let Some(mut rx) = rx {
        let mut message = Vec::new();
        let _ = rx.try_recv(&mut message);
        let _ = rx.try_recv_into(&mut [0; 3]);
        let _ = rx.try_recv_batch(100, |message| assert!(message.to_vec().len() <= size));
    }
    let _ = ring.stats();
    true
}

fn use_semaphore(semaphore: Result<Semaphore, SetupError>) -> bool {
    let Some(semaphore) = opened(semaphore) else { return false };
    let _ = (semaphore.value(), semaphore.stats());
    if let Some(mut holder) = opened(semaphore.holder()) {
        let _ = holder.try_acquire().map(drop);
        let _ = holder.acquire_many_timeout(2, Duration::ZERO).map(drop);
        let _ = (holder.post(1), holder.wait_zero_timeout(Duration::ZERO));
    }
    true
}

fn use_event(event: Result<Event, SetupError>) -> bool {
    let Some(event) = opened(event) else { return false };
    let _ = (event.value(), event.stats());
    let mut handle = event.handle().unwrap();
    let _ = (handle.raise(5), handle.try_take(1), handle.wait_all_timeout(6, Duration::ZERO));
    true
}

fn use_untyped(ring: Result<UntypedRing, SetupError>, size: usize) -> bool {
    let Some(ring) = opened(ring) else { return false };
    let message = ring.message_size();
    assert!(ring.capacity() * message <= size, "more capacity than bytes");
    let (tx, rx) = (opened(ring.sender()), opened(ring.receiver()));
    if let Some(mut tx) = tx {
        let _ = tx.try_send(&vec![1; message]);
        let _ = tx.try_send_batch(&vec![1; message * 3]);
    }
    if let Some(mut rx) = rx {
        let _ = rx.try_recv(&mut vec![0; message]);
        let _ = rx.try_recv_batch(&mut vec![0; message * 5]);
    }
    let _ = ring.stats();
    true
}

fn use_latest(variable: Result<Latest<u64>, SetupError>) -> bool {
    let Some(variable) = opened(variable) else { return false };
    let (tx, rx) = (opened(variable.writer()), opened(variable.reader()));
    let _ = (variable.stats(), variable.peek().is_ok());
    if let Some(mut tx) = tx {
        let _ = (tx.set(1).is_ok(), tx.set(2).is_ok());
    }
    if let Some(mut rx) = rx {
        let _ = (rx.get().is_ok(), rx.wait_for_change_timeout(Duration::ZERO).is_ok());
    }
    true
}

fn use_broadcast(broadcast: Result<Broadcast<u64>, SetupError>, size: usize) -> bool {
    let Some(broadcast) = opened(broadcast) else { return false };
    assert!(broadcast.capacity() * 8 <= size, "more capacity than bytes");
    let mut receivers = [Delivery::Gate, Delivery::Lossy]
        .map(|delivery| opened(broadcast.receiver(delivery, Start::Oldest)));
    if let Some(mut tx) = opened(broadcast.sender()) {
        let _ = (tx.try_send(1).is_ok(), tx.try_send_batch(&[1; 9]));
    }
    for rx in receivers.iter_mut().flatten() {
        let _ = (rx.try_recv().is_ok(), rx.try_recv_batch(&mut [0; 100]).is_ok());
    }
    let _ = broadcast.stats();
    true
}

fn use_byte_broadcast(broadcast: Result<ByteBroadcast, SetupError>, size: usize) -> bool {
    let Some(broadcast) = opened(broadcast) else { return false };
    let longest = broadcast.longest();
    assert!(broadcast.capacity() * longest <= size, "more capacity than bytes");
    let mut receivers = [Delivery::Gate, Delivery::Lossy]
        .map(|delivery| opened(broadcast.receiver(delivery, Start::Oldest)));
    if let Some(mut tx) = opened(broadcast.sender()) {
        let _ = (tx.try_send(b"message"), tx.try_send(&vec![1; longest]));
    }
    for rx in receivers.iter_mut().flatten() {
        for _ in 0..3 {
            assert!(rx.try_recv().map_or(0, <[u8]>::len) <= longest);
        }
    }
    let _ = broadcast.stats();
    true
}

fn use_untyped_latest(variable: Result<UntypedLatest, SetupError>, size: usize) -> bool {
    let Some(variable) = opened(variable) else { return false };
    let bytes = variable.value_size();
    assert!(bytes <= size, "a longer value than all bytes");
    let (tx, rx) = (opened(variable.writer()), opened(variable.reader()));
    let mut value = vec![1; bytes];
    if let Some(mut tx) = tx {
        let _ = (tx.set(&value).is_ok(), tx.set(&value).is_ok());
    }
    if let Some(mut rx) = rx {
        let _ = rx.read(&mut value).is_ok();
        let _ = rx.wait_for_change_timeout(&mut value, Duration::ZERO).is_ok();
    }
    let _ = variable.stats();
    true
}

fn use_mailbox(mailbox: Result<Mailbox, SetupError>, size: usize) -> bool {
    let Some(mailbox) = opened(mailbox) else { return false };
    let (types, longest) = (mailbox.types(), mailbox.longest());
    assert!(mailbox.capacity() * types * longest <= size, "more capacity than bytes");
    let (tx, rx) = (opened(mailbox.sender()), opened(mailbox.receiver()));
    let mut listener = mailbox.subscribe(Select::Any).ok();
    if let Some(mut tx) = tx {
        let _ = tx.try_send(1, b"message");
        let _ = tx.send_timeout(types as u8, &vec![1; longest], Duration::ZERO);
    }
    if let Some(mut rx) = rx {
        let mut buffer = vec![0; longest];
        let found = rx.try_peek(Select::Any, 1, &mut buffer);
        assert!(found.map_or(0, |letter| letter.length) <= longest);
        for select in [Select::Any, Select::Highest, Select::Type(1), Select::AtMost(2)] {
            let found = rx.recv_timeout(select, &mut buffer, Duration::ZERO);
            assert!(found.map_or(0, |letter| letter.length) <= longest);
        }
    }
    let _ = listener.as_mut().map(|listener| listener.try_wait());
    let _ = (mailbox.stats(), mailbox.len(), mailbox.is_removed());
    true
}

fn use_stream(stream: Result<Stream, SetupError>) -> bool {
    let Some(stream) = opened(stream) else { return false };
    if let Some(mut writer) = opened(stream.writer()) {
        writer.set_nonblocking(true);
        let _ = (writer.write(&[7; 300]), writer.ending());
    }
    if let Some(mut reader) = opened(stream.reader()) {
        reader.set_nonblocking(true);
        let mut buffer = [0; 100];
        for _ in 0..3 {
            assert!(reader.read(&mut buffer).unwrap_or(0) <= buffer.len());
        }
    }
    true
}
