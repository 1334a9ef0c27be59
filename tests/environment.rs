//! Rings across namespaces, and on a single processor.

mod processes;

use annulus::{Place, RecvError, Ring, Role, SetupError, Wait};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use processes::{PATIENCE, fork, skip, unique};

#[test]
fn liveness_is_right_across_pid_namespaces() {
    let ring = Ring::<u64>::builder(8).create(Place::memfd("namespaces").unwrap()).unwrap();
    let mut rx = ring.receiver().unwrap();
    let fd = ring.inheritable_fd().unwrap();
    let mut outer = fork(|line| {
        let spaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
        if let Err(errno) = unshare(spaces) {
            line.say(0);
            return skip("liveness_is_right_across_pid_namespaces", errno);
        }
        // The first process of the new namespace.
        let mut inner = fork(|line| {
            assert_eq!(std::process::id(), 1);
            let ring = Ring::<u64>::from_fd(fd).unwrap();
            match ring.receiver() {
                // The pid is only for people, and means nothing here.
                Err(SetupError::RoleTaken { role: Role::Receiver, .. }) => {}
                other => panic!("{other:?}"),
            }
            let mut tx = ring.sender().unwrap();
            assert!(tx.wait_for_peer(PATIENCE));
            tx.send(41).unwrap();
            line.say(1);
            line.hear();
        });
        inner.line.expect(1);
        line.say(1);
        line.expect(2);
        inner.kill();
        line.say(3);
        line.hear();
    });
    if outer.line.hear() == 0 {
        return outer.finish();
    }
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(41));
    assert!(rx.wait_for_peer(std::time::Duration::ZERO));
    assert!(matches!(ring.sender(), Err(SetupError::RoleTaken { pid: 1, .. })));
    let of = |role| ring.stats().participants.into_iter().find(|side| side.role == role).unwrap();
    assert!(of(Role::Sender).alive);
    // A stranger of the same pid, alive in another namespace, changes nothing when it dies.
    outer.line.say(2);
    outer.line.expect(3);
    assert!(!of(Role::Sender).alive);
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    ring.sender().unwrap().send(42).unwrap();
    assert_eq!(rx.recv(), Ok(42));
    outer.line.say(4);
    outer.finish();
}

#[test]
fn two_processes_share_one_processor() {
    for wait in [Wait::Spin, Wait::Block, Wait::Adaptive] {
        let name = unique("one-processor");
        let _ring = Ring::<u64>::builder(4).create(Place::name(&name).unwrap()).unwrap();
        let back = Ring::<u64>::builder(4).create(Place::memfd("back").unwrap()).unwrap();
        let (there, here) = (back.inheritable_fd().unwrap(), back.inheritable_fd().unwrap());
        let alone = || {
            let mut first = CpuSet::new();
            let all = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
            let any = (0..CpuSet::count()).find(|&cpu| all.is_set(cpu).unwrap()).unwrap();
            first.set(any).unwrap();
            sched_setaffinity(Pid::from_raw(0), &first).unwrap();
        };
        let echo = fork(|_| {
            alone();
            let ring = Ring::<u64>::open(Place::name(&name).unwrap()).unwrap();
            let mut rx = ring.receiver().unwrap().with_wait(wait);
            let back = Ring::<u64>::from_fd(there).unwrap();
            let mut tx = back.sender().unwrap().with_wait(wait);
            for message in rx.iter() {
                tx.send(message).unwrap();
            }
        });
        let asker = fork(|_| {
            alone();
            let ring = Ring::<u64>::open(Place::name(&name).unwrap()).unwrap();
            let mut tx = ring.sender().unwrap().with_wait(wait);
            let back = Ring::<u64>::from_fd(here).unwrap();
            let mut rx = back.receiver().unwrap().with_wait(wait);
            for i in 0..100 {
                tx.send(i).unwrap();
                assert_eq!(rx.recv_timeout(PATIENCE), Ok(i), "{wait:?}");
            }
        });
        asker.finish();
        echo.finish();
    }
}
