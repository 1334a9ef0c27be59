//! What a message costs while nobody sleeps: no system call and no allocation.

mod processes;

use annulus::{
    Address, ByteRing, Connect, Duplex, Event, Hub, HubEvent, Listener, Place, Pollable, Ring,
    Semaphore, Topology, UntypedRing, Wait,
};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is left to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages in each measurement.
const MESSAGES: u64 = 20_000;

/// Something that is measured: set up by the call, measured in what it gives back.
type Work = fn() -> Box<dyn FnMut()>;

const WORK: [(&str, Work); 12] = [
    ("numbers, adaptive", || numbers(Wait::Adaptive)),
    ("numbers, blocking", || numbers(Wait::Block)),
    ("numbers, spinning", || numbers(Wait::Spin)),
    ("numbers, with a descriptor to poll", || {
        let ring = Ring::<u64>::builder(100).create(memfd()).unwrap();
        let mut tx = ring.sender().unwrap();
        let mut rx = Pollable::new(ring.receiver().unwrap()).unwrap();
        Box::new(move || {
            for i in 0..MESSAGES {
                tx.try_send(i).unwrap();
                assert_eq!(rx.try_recv(), Ok(i));
            }
            // There is something: who asks need not be told.
            tx.try_send(0).unwrap();
            assert!((0..100).all(|_| rx.arm().is_ready()));
            assert_eq!(rx.try_recv(), Ok(0));
        })
    }),
    ("large messages", || {
        let ring = Ring::<[u64; 9]>::builder(100).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        Box::new(move || {
            for i in 0..MESSAGES {
                tx.try_send([i; 9]).unwrap();
                assert_eq!(rx.try_recv().unwrap(), [i; 9]);
            }
        })
    }),
    ("batches", || {
        let ring = Ring::<u64>::builder(1000).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        Box::new(move || {
            let mut got = [0; 64];
            for i in 0..MESSAGES / 64 {
                tx.send_all(&[i; 64]).unwrap();
                assert_eq!(rx.recv_batch(&mut got).unwrap(), 64);
                assert_eq!(got, [i; 64]);
            }
        })
    }),
    ("bytes", || {
        let ring = ByteRing::builder(4096).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        let mut message = Vec::with_capacity(1000);
        Box::new(move || {
            for i in 0..MESSAGES {
                let len = i as usize % 1000;
                tx.send(&[i as u8; 1000][..len]).unwrap();
                assert_eq!(rx.recv(&mut message).unwrap(), len);
                let mut grant = tx.reserve(16).unwrap();
                grant.write(3, b"in place");
                grant.commit();
                let mut copy = [0; 16];
                rx.claim().unwrap().copy_to(&mut copy);
                assert_eq!(&copy[3..11], b"in place");
            }
        })
    }),
    ("permits", || {
        let semaphore = Semaphore::counting(3).create(memfd()).unwrap();
        let (mut one, mut other) = (semaphore.holder().unwrap(), semaphore.holder().unwrap());
        // The first time each wakes those who slept before it came.
        drop(one.acquire());
        drop(other.acquire());
        Box::new(move || {
            for _ in 0..MESSAGES {
                let permit = one.acquire().unwrap();
                drop(other.acquire_many(2).unwrap());
                drop(permit);
            }
        })
    }),
    ("flags", || {
        let event = Event::builder().create(memfd()).unwrap();
        let (mut one, mut other) = (event.handle().unwrap(), event.handle().unwrap());
        one.raise(2).unwrap();
        Box::new(move || {
            for _ in 0..MESSAGES {
                one.raise(5).unwrap();
                assert_eq!(other.wait_all(7), Ok(7));
                assert_eq!(other.take(5), Ok(5));
                one.raise(2).unwrap();
            }
        })
    }),
    ("lanes", || lanes(false)),
    ("ordered lanes", || lanes(true)),
    ("untyped", || {
        let ring = UntypedRing::builder(100, 20).create(memfd()).unwrap();
        let (mut tx, mut rx) = (ring.sender().unwrap(), ring.receiver().unwrap());
        Box::new(move || {
            let mut got = [0; 20];
            for i in 0..MESSAGES {
                tx.send(&[i as u8; 20]).unwrap();
                rx.recv(&mut got).unwrap();
                assert_eq!(got, [i as u8; 20]);
            }
        })
    }),
];

fn lanes(ordered: bool) -> Box<dyn FnMut()> {
    let builder = ByteRing::builder(4096).topology(Topology::Mpsc).ordered(ordered);
    let ring = builder.create(memfd()).unwrap();
    let (mut one, mut other) = (ring.sender().unwrap(), ring.sender().unwrap());
    let mut rx = ring.receiver().unwrap();
    let mut message = Vec::with_capacity(1000);
    let mut work = move |count| {
        for i in 0..count {
            let len = i as usize % 1000;
            one.send(&[1; 1000][..len]).unwrap();
            other.send(&[2; 8]).unwrap();
            for _ in 0..2 {
                rx.recv(&mut message).unwrap();
            }
        }
    };
    // The first message of each lane asks the receiver to look there.
    work(1);
    Box::new(move || work(MESSAGES))
}

fn memfd() -> Place {
    Place::memfd("costs").unwrap()
}

fn numbers(wait: Wait) -> Box<dyn FnMut()> {
    let ring = Ring::<u64>::builder(100).create(memfd()).unwrap();
    let mut tx = ring.sender().unwrap().with_wait(wait);
    let mut rx = ring.receiver().unwrap().with_wait(wait);
    Box::new(move || {
        for i in 0..MESSAGES {
            tx.send(i).unwrap();
            assert_eq!(rx.recv().unwrap(), i);
        }
        for i in 0..100 {
            tx.try_send(i).unwrap();
        }
        for i in 0..100 {
            assert_eq!(rx.try_recv().unwrap(), i);
        }
        assert_eq!((tx.len(), rx.is_empty()), (0, true));
    })
}

#[test]
fn a_message_allocates_nothing() {
    for (name, work) in WORK {
        let mut work = work();
        let before = ALLOCATIONS.get();
        work();
        assert_eq!(ALLOCATIONS.get() - before, 0, "{name}");
    }
    // The counter counts.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

/// A system call that nothing else makes, to mark where the measurement begins and ends.
fn mark() {
    // SAFETY: it asks for the process group of a process that cannot be.
    unsafe { libc::syscall(libc::SYS_getpgid, MARK) };
}

const MARK: libc::pid_t = -12345;

/// Numbers of the system calls that `work` makes, by tracing a process that does it.
fn system_calls(work: impl FnOnce() -> Box<dyn FnMut()>) -> Vec<u64> {
    let child = processes::fork(|_| {
        let mut work = work();
        ptrace::traceme().unwrap();
        raise(Signal::SIGSTOP).unwrap();
        mark();
        work();
        mark();
    });
    let pid = Pid::from_raw(child.pid() as i32);
    let (mut calls, mut marks) = (Vec::new(), 0);
    let mut started = false;
    loop {
        // One that does not go on is ended by its alarm.
        match waitpid(pid, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGSTOP) if !started => {
                ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
                started = true;
            }
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(pid).unwrap();
                if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: at an entry the kernel has filled this member in.
                    let entry = unsafe { info.u.entry };
                    if (entry.nr, entry.args[0] as i32) == (libc::SYS_getpgid as u64, MARK) {
                        marks += 1;
                    } else if marks == 1 {
                        calls.push(entry.nr);
                    }
                    if marks == 2 {
                        // It is done; the rest is between it and its parent's `drop`.
                        ptrace::detach(pid, None).unwrap();
                        child.finish();
                        return calls;
                    }
                }
            }
            WaitStatus::Stopped(_, signal) => {
                ptrace::syscall(pid, signal).unwrap();
                continue;
            }
            status => panic!("the measured process ended: {status:?}"),
        }
        ptrace::syscall(pid, None).unwrap();
    }
}

/// A hub whose clients send all the time, one of which never receives.
fn busy_hub() -> Box<dyn FnMut()> {
    let address = Address::name(processes::unique("costs"));
    let listener = Listener::options().timeout(processes::PATIENCE).bind(address.clone()).unwrap();
    let mut hub = Hub::<Duplex<u64>>::new(listener).unwrap();
    hub.set_wait(Wait::Spin);
    let clients = std::thread::spawn(move || {
        let open = || {
            let connect = Connect::new().capacity(8).timeout(processes::PATIENCE);
            connect.open::<Duplex<u64>>(address.clone()).unwrap()
        };
        [open(), open()]
    });
    while hub.len() < 2 {
        let _ = hub.next_timeout(Duration::from_millis(1)).unwrap();
    }
    let [mut one, mut deaf] = clients.join().unwrap();
    let mut work = move |count| {
        let mut full = 0;
        for i in 0..count {
            one.try_send(i).unwrap();
            deaf.try_send(i).unwrap();
            let mut left = 2;
            while left > 0 {
                let HubEvent::Ready(mut turn) = hub.next().unwrap() else { continue };
                while let Some(number) = turn.recv() {
                    left -= 1;
                    full += u64::from(turn.try_send(number).is_err());
                }
            }
            assert_eq!(one.try_recv(), Ok(i));
        }
        full
    };
    // The deaf one's ring is full by the end of this, and the hub has asked it to say when it is not. And the hub has asked often
    // enough who has rung to have heard the bells of the first messages.
    work(2_000);
    Box::new(move || assert_eq!(work(MESSAGES), MESSAGES))
}

#[test]
fn a_hub_that_is_awake_only_asks_now_and_then_who_has_rung() {
    let calls = system_calls(busy_hub);
    let count =
        |which: &[i64]| calls.iter().filter(|&&call| which.contains(&(call as i64))).count() as u64;
    let bells = count(&[libc::SYS_epoll_wait, libc::SYS_epoll_pwait]);
    // Whether the deaf one lives, every so many times that it has no room.
    let lives = count(&[libc::SYS_fcntl]);
    assert_eq!(bells + lives, calls.len() as u64, "{calls:?}");
    // By the number of steps, also where each question takes as long as it does here.
    assert!(bells <= MESSAGES / 8 && lives <= MESSAGES / 100, "{bells} and {lives} questions");
}

#[test]
fn a_message_makes_no_system_call() {
    // The counter counts.
    let control = system_calls(|| {
        Box::new(|| {
            for _ in 0..3 {
                std::thread::yield_now();
            }
        })
    });
    assert_eq!(control, [libc::SYS_sched_yield as u64; 3]);
    for (name, work) in WORK {
        assert_eq!(system_calls(work), [0_u64; 0], "{name}");
    }
}
