//! `listen` and `connect`: both ways, to either end, and what is said when it goes wrong.

mod support;

use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use support::{Running, annulus, eventually, noise, run, start};

/// A name in the abstract namespace that nobody else uses.
fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("@cli-meet-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn both_ways_at_once_and_to_the_end() {
    for wait in ["adaptive", "block"] {
        let name = name();
        let (there, back) = (noise(1, 3_000_000), noise(2, 2_000_000));
        let listener = Running::with_input(&["listen", &name, "--wait", wait], back.clone());
        let args = ["connect", &name, "--wait", wait, "--timeout", "60s", "--capacity", "32K"];
        let client = Running::with_input(&args, there.clone());
        let (listener, client) = (listener.wait(), client.wait());
        listener.assert_done();
        client.assert_done();
        assert!(listener.stdout == there && client.stdout == back);
    }
}

#[test]
fn an_answer_comes_after_the_end_of_the_question() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let path = path.to_str().unwrap();
    let (listener, mut answer) = Running::with_stdin(&["listen", path]);
    let mut command = annulus(&["connect", path, "--timeout", "60s"]);
    command.stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"question").unwrap();
    // Standard input of the client is at its end; the other direction is not.
    eventually("the socket goes when there is a client", || !Path::new(path).exists());
    answer.write_all(b"answer").unwrap();
    drop(answer);
    let mut got = String::new();
    client.stdout.take().unwrap().read_to_string(&mut got).unwrap();
    assert_eq!(got, "answer");
    assert!(client.wait().unwrap().success());
    let done = listener.wait();
    done.assert_done();
    assert_eq!(done.stdout, b"question");
}

#[test]
fn who_is_not_there_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let path = path.to_str().unwrap();
    run(&["connect", path]).assert_fails(3, "nobody listens");
    run(&["connect", path, "--timeout", "30ms"]).assert_fails(124, "in time");
    run(&["listen", path, "--timeout", "30ms"]).assert_fails(124, "in time");
    assert!(!Path::new(path).exists(), "the socket goes with its listener");
    run(&["listen", &"x".repeat(200)]).assert_fails(2, "107");
    run(&["listen", "/no/such/directory/s"]).assert_fails(3, "no such directory");
    run(&["listen", "/etc/passwd/s"]).assert_fails(3, "no such directory");
    run(&["listen", "/proc/s"]).assert_fails(1, "no socket can be made");
    let listener = start(annulus(&["listen", path, "--mode", "0660"]));
    eventually("it listens", || Path::new(path).exists());
    run(&["listen", path]).assert_fails(4, "listens there already");
    listener.signal(Signal::SIGINT);
    listener.wait().assert_fails(130, "interrupted");
    assert!(!Path::new(path).exists(), "also when it was interrupted");
}

#[test]
fn who_wants_something_else_is_refused_and_another_one_comes() {
    let name = name();
    let listener = start(annulus(&["listen", &name, "--label", "apples"]));
    let other = ["connect", &name, "--timeout", "60s", "--label", "pears"];
    run(&other).assert_fails(8, "the label is another one");
    run(&["connect", &name, "--label", "apples"]).assert_done();
    let done = listener.wait();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("a client was refused: the label is another one"), "{done:?}");
}

#[test]
fn a_listener_says_how_much_it_takes() {
    let name = name();
    let listener = start(annulus(&["listen", &name, "--most-bytes", "1M"]));
    let large = ["connect", &name, "--timeout", "60s", "--capacity", "1M"];
    run(&large).assert_fails(2, "--most-bytes");
    run(&["connect", &name, "--capacity", "64K"]).assert_done();
    let done = listener.wait();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("a client was refused") && done.stderr.contains("--most-bytes"));
    // More than it takes if nobody says.
    let listener = start(annulus(&["listen", &name, "--most-bytes", "100M"]));
    run(&["connect", &name, "--timeout", "60s", "--capacity", "40M"]).assert_done();
    assert_eq!(listener.wait().code, 0);
}

#[test]
fn a_dead_peer_is_told_from_one_that_has_closed() {
    let name = name();
    let (listener, _open) = Running::with_stdin(&["listen", &name]);
    let (client, mut input) = Running::with_stdin(&["connect", &name, "--timeout", "60s"]);
    input.write_all(b"last words").unwrap();
    // It is connected when this has come through, which cannot be seen from here; a killed one that never was
    // connected would be no peer. So it is killed when it sleeps with nothing left to read.
    eventually("it has read all", || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", client.pid())).unwrap();
        state.rsplit(')').next().unwrap().trim_start().starts_with('S')
            && std::fs::read_dir(format!("/proc/{}/task", client.pid())).unwrap().count() >= 4
    });
    client.signal(Signal::SIGKILL);
    assert_eq!(client.wait().code, 128 + 9);
    let done = listener.wait();
    done.assert_fails(7, "died");
}

/// Whoever reads what comes could not tell it from an end.
#[test]
fn an_input_that_cannot_be_read_is_no_end() {
    let name = name();
    let (listener, _open) = Running::with_stdin(&["listen", &name]);
    let mut client = annulus(&["connect", &name, "--timeout", "60s"]);
    client.stdin(std::fs::File::open("/").unwrap());
    start(client).wait().assert_fails(1, "standard input");
    assert_eq!(listener.wait().code, 7);
}

#[test]
fn ctrl_c_ends_a_connection() {
    let name = name();
    let (listener, _open) = Running::with_stdin(&["listen", &name]);
    let (client, _also_open) = Running::with_stdin(&["connect", &name, "--timeout", "60s"]);
    eventually("they are connected", || {
        std::fs::read_dir(format!("/proc/{}/task", client.pid())).unwrap().count() >= 4
    });
    client.signal(Signal::SIGINT);
    client.wait().assert_fails(130, "interrupted");
    assert_eq!(listener.wait().code, 7);
}
