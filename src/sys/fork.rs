//! What a forked child must not keep: descriptors that hold locks, and handles that look usable.
//!
//! A fork child shares the parent's open file descriptions, and with them its locks: the parent would
//! look alive for as long as the child lives. So every description that holds a lock is registered here
//! and closed in the child before `fork` returns there, and a generation number tells handles that they
//! belong to another process. Mappings are `MADV_DONTFORK`, so the child has none to misuse.
//!
//! Some handles look at a word of their mapping before they ask whose they are, and ask only if it is not the one they know.
//! Such words are registered, too ([`Watched`]), and in the child there is another one at their address, which no handle
//! knows.
//!
//! The handlers are installed by a constructor, before any other code of this library can run. Installing
//! them at the first use would not do. A child that is forked while another thread is in a `Once` waits for
//! that thread for ever. And a fork that is under way when the handlers are added does not run them, though
//! its child may get a descriptor that was opened right after they were. A constructor runs before there is a
//! second thread. (Where this code is in a library that a running program loads, it runs before anybody can
//! call it, so nobody waits; but another thread's fork that began before that and ends after a ring was opened
//! is still passed by. Its child keeps the lock until it ends or calls `exec`.)

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static GENERATION: AtomicU32 = AtomicU32::new(1);
static PRIVATE: Mutex<Registry> =
    Mutex::new(Registry { fds: Vec::new(), watched: Vec::new(), forks: 0 });
/// Whether the handlers are there. Written by the constructor only.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// What a fork goes by. Locked while one is under way.
struct Registry {
    fds: Vec<RawFd>,
    /// The addresses of watched words.
    watched: Vec<usize>,
    /// Forks so far.
    forks: u64,
}

/// Attempts to open a file while no fork comes between. One takes microseconds, so all of them fail only beside somebody
/// who does nothing but fork.
const ATTEMPTS: u32 = 64;

/// The constructor, where the loader looks for it: that section holds pointers to functions of this type,
/// which the loader calls once each, so the attribute is sound.
#[used]
#[unsafe(link_section = ".init_array")]
static INSTALL: extern "C" fn() = install;

extern "C" fn install() {
    // SAFETY: the handlers below do nothing that is forbidden around a fork: they lock and unlock a mutex
    // on one thread and, in the child, call `close` and `mmap`.
    let result =
        unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    INSTALLED.store(result == 0, Ordering::Relaxed);
}

/// The number of this process among its forked ancestors; a handle of another generation is dead.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// The generation that something was made in, for a loop to compare: where the number lies is at hand, and is not looked up
/// each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    generation: u32,
    now: &'static AtomicU32,
}

impl Here {
    /// This process.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        // An address that the compiler does not know, or it looks that up each time.
        Self { generation: generation(), now: core::hint::black_box(&GENERATION) }
    }

    /// Whether this is still the process in which it was made.
    #[inline(always)]
    pub(crate) fn is_here(self) -> bool {
        self.now.load(Ordering::Relaxed) == self.generation
    }
}

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub(crate) struct PrivateFd {
    fd: Option<File>,
    generation: u32,
    /// Whether locks may be held through it when it is closed.
    has_locks: bool,
}

impl PrivateFd {
    /// Takes the descriptor under care that `open` opens anew. No fork comes between: a child that had
    /// the description would keep every lock that is taken through it later.
    ///
    /// A file may take its time to be opened, on a file system whose server does not answer, and no fork of this process
    /// shall wait for that. So it is opened first, and once more if there was a fork meanwhile.
    ///
    /// # Panics
    ///
    /// If the C library had no memory for the handlers when the process started.
    pub(crate) fn open<E>(mut open: impl FnMut() -> Result<File, E>) -> Result<Self, E> {
        for _ in 0..ATTEMPTS {
            // Under the lock, so that no fork is under way that was counted already.
            let before = registry().forks;
            let fd = open()?;
            let mut registry = registry();
            if registry.forks == before {
                return Ok(Self::register(fd, &mut registry, true));
            }
        }
        let mut registry = registry();
        open().map(|fd| Self::register(fd, &mut registry, true))
    }

    /// The same for a descriptor through which no lock is taken, or each is given up by who took it, and which is there at
    /// once: `open` must wait for nothing, for every fork waits for it.
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open).
    pub(crate) fn open_lockless<E>(open: impl FnOnce() -> Result<File, E>) -> Result<Self, E> {
        let mut registry = registry();
        open().map(|fd| Self::register(fd, &mut registry, false))
    }

    fn register(fd: File, registry: &mut Registry, has_locks: bool) -> Self {
        // Named here, because a linker takes from an archive only what is named.
        core::hint::black_box(&INSTALL);
        assert!(INSTALLED.load(Ordering::Relaxed), "there was no memory for the fork handlers");
        registry.fds.push(fd.as_raw_fd());
        Self { fd: Some(fd), generation: generation(), has_locks }
    }

    /// It as a file.
    ///
    /// # Panics
    ///
    /// In a fork child, where the number is closed and may be that of some other file by now.
    pub(crate) fn file(&self) -> &File {
        assert!(
            self.is_ours(),
            "the descriptor belongs to the parent process; open the ring anew in the child"
        );
        self.fd.as_ref().expect("present until drop")
    }

    /// Whether this is the process that made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl AsFd for PrivateFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if !self.is_ours() {
            // The child's handler has closed the number already; it may be somebody else's by now.
            core::mem::forget(fd);
            return;
        }
        let mut registry = registry();
        if let Some(at) = registry.fds.iter().position(|&known| known == fd.as_raw_fd()) {
            registry.fds.swap_remove(at);
        }
        if self.has_locks {
            super::locks::unlock(fd.as_fd());
        }
        // Closed under the lock, so that no fork sees it open and unregistered.
        drop(fd);
    }
}

/// A word in a mapping that no child inherits, at which handles may look before they ask whose they are. In a forked
/// child [`OTHER`] is there.
#[derive(Debug)]
pub(crate) struct Watched {
    address: usize,
    generation: u32,
}

/// What a forked child finds for each watched word: nothing that a handle takes for the word that it knows.
pub(crate) const OTHER: u64 = u64::MAX;

impl Watched {
    /// Has `word` watched, until this is dropped, which must be before the word is unmapped.
    pub(crate) fn new(word: &AtomicU64) -> Self {
        let address = std::ptr::from_ref(word).addr();
        registry().watched.push(address);
        Self { address, generation: generation() }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // In a forked child it is out of the list already.
        if self.generation == generation() {
            let mut registry = registry();
            if let Some(at) = registry.watched.iter().position(|&known| known == self.address) {
                registry.watched.swap_remove(at);
            }
        }
    }
}

/// Puts [`OTHER`] at `address`, where the parent's mapping left a hole. If that fails, the hole stays, and who looks there
/// ends by SIGSEGV.
fn stand_in(address: usize) {
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let start = address & !(page - 1);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: maps memory where there is none; what is there stays.
    let mapped = unsafe {
        libc::mmap(std::ptr::without_provenance_mut(start), page, protection, flags, -1, 0)
    };
    if mapped.addr() == start {
        // SAFETY: within the page that was just mapped, at the place of another `AtomicU64`, and never unmapped.
        let word = unsafe { &*mapped.byte_add(address - start).cast::<AtomicU64>() };
        word.store(OTHER, Ordering::Relaxed);
    } else if mapped != libc::MAP_FAILED {
        // A kernel that does not know the flag, and something lies there.
        // SAFETY: just mapped, and nobody has it.
        unsafe { libc::munmap(mapped, page) };
    }
}

/// A value that each process makes for itself: a forked child has none of its parent's, and no lock that somebody
/// in the parent had.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<(u32, T)>);

impl<T: Sync> PerProcess<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// The value, made by `make` if there is none. Whoever comes at the same time makes one, too, and one of them
    /// stays, for good.
    pub(crate) fn get(&self, make: impl FnOnce() -> Option<T>) -> Option<&'static T> {
        let there = self.0.load(Ordering::Acquire);
        // SAFETY: what is put there is never freed, and never changed but through shared references.
        if let Some((made_in, value)) = unsafe { there.as_ref() } {
            if *made_in == generation() {
                return Some(value);
            }
        }
        let made = Box::into_raw(Box::new((generation(), make()?)));
        let (won, lost) = (Ordering::AcqRel, Ordering::Acquire);
        match self.0.compare_exchange(there, made, won, lost) {
            // SAFETY: it is there for good now.
            Ok(_) => unsafe { made.as_ref() }.map(|(_, value)| value),
            Err(other) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: as above; another thread of this process was faster.
                unsafe { other.as_ref() }.map(|(_, value)| value)
            }
        }
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    PRIVATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guard that `before` takes and one of the `after`s gives back, on the same thread.
struct Held(core::cell::UnsafeCell<Option<MutexGuard<'static, Registry>>>);

// SAFETY: only the thread that holds the lock touches the cell: it is filled after the lock is taken
// and emptied before it is given back.
unsafe impl Sync for Held {}

static HELD: Held = Held(core::cell::UnsafeCell::new(None));

extern "C" fn before() {
    let mut guard = registry();
    guard.forks += 1;
    // SAFETY: this thread holds the lock.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn after_in_parent() {
    // SAFETY: this thread took the lock in `before`.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn after_in_child() {
    // SAFETY: this is the child's only thread, the copy of the one that took the lock in `before`.
    let guard = unsafe { (*HELD.0.get()).take() };
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(mut registry) = guard {
        for fd in registry.fds.drain(..) {
            // SAFETY: the number was registered by its owner, whose copy in this process will not
            // close it, for it is of another generation now.
            unsafe { libc::close(fd) };
        }
        registry.watched.drain(..).for_each(stand_in);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mapping::Mapping;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use std::fs::OpenOptions;
    use std::io;
    use std::path::Path;
    use std::ptr::NonNull;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Forks a child that ends at once with what `code` gives, and gives that.
    fn code_of_a_child(code: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child makes system calls only.
        match unsafe { fork() }.unwrap() {
            // SAFETY: ends the process at once.
            ForkResult::Child => unsafe { libc::_exit(code()) },
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, code) => code,
                other => panic!("{other:?}"),
            },
        }
    }

    /// A FIFO is not open before somebody opens its other end, as a file is not whose server is away.
    #[test]
    fn a_slow_open_holds_up_no_fork() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let opener = scope.spawn(|| PrivateFd::open(|| open(&path)));
            scope.spawn(move || {
                // Until it is at it, as far as can be seen from here.
                thread::sleep(Duration::from_millis(50));
                let code = code_of_a_child(|| 7);
                tell.send(code).unwrap();
            });
            let code = told.recv_timeout(PATIENCE);
            // Both are let go before anything fails. It opens twice, for there was a fork.
            let other_end = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let _ends = (0..2).map(|_| other_end()).collect::<Vec<_>>();
            opener.join().unwrap().unwrap();
            assert_eq!(code, Ok(7));
        });
    }

    /// A mapping of one page that no child has, and a word at its end.
    fn word() -> (Mapping, NonNull<AtomicU64>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mapping = Mapping::new(&file, 4096).unwrap();
        // SAFETY: the last eight bytes of the page.
        let word = unsafe { mapping.base().add(4088).cast() };
        (mapping, word)
    }

    #[test]
    fn a_child_finds_another_word_where_one_is_watched() {
        let (one, other) = (word(), word());
        // SAFETY: the mappings live until the end, as in each child does what lies there instead.
        let words = [one.1, other.1].map(|word| unsafe { word.as_ref() });
        let watched = words.map(|word| {
            word.store(5, Ordering::Relaxed);
            Watched::new(word)
        });
        let are_other = || words.map(|word| word.load(Ordering::Relaxed) == OTHER) == [true; 2];
        let grandchild = || i32::from(are_other() && code_of_a_child(|| are_other().into()) == 1);
        assert_eq!(code_of_a_child(grandchild), 1);
        assert_eq!(words.map(|word| word.load(Ordering::Relaxed)), [5; 2]);
        let is_known = |word: &AtomicU64| {
            let address = std::ptr::from_ref(word).addr();
            registry().watched.contains(&address)
        };
        assert!(words.into_iter().all(is_known));
        drop(watched);
        assert!(!words.into_iter().any(is_known));
    }

    #[test]
    fn what_lies_where_a_word_was_is_left_alone() {
        let (mapping, word) = word();
        // SAFETY: the mapping lives until the end.
        let word = unsafe { word.as_ref() };
        word.store(5, Ordering::Relaxed);
        stand_in(std::ptr::from_ref(word).addr());
        assert_eq!(word.load(Ordering::Relaxed), 5);
        drop(mapping);
    }

    #[test]
    fn no_child_has_what_was_opened_while_it_was_forked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut opened = Vec::new();
        let own = PrivateFd::open(|| {
            let fd = open(file.path())?;
            opened.push(fd.as_raw_fd());
            if opened.len() == 1 {
                // It has the number, and the description behind it.
                // SAFETY: asks of a number, whatever it is.
                let has = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
                assert_eq!(code_of_a_child(|| i32::from(has(opened[0]))), 1);
            }
            io::Result::Ok(fd)
        });
        assert_eq!(opened.len(), 2, "the first one is a child's, too");
        let number = own.as_ref().unwrap().file().as_raw_fd();
        // SAFETY: as above.
        let has = || unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        assert_eq!(code_of_a_child(|| i32::from(has())), 0);
    }
}
