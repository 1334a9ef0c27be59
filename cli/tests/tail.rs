//! `tail`: everything is seen, and nothing is taken.

mod support;

use annulus::{ByteBroadcast, Mailbox, Place, Select};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use support::{DEADLINE, Name, Running, annulus, eventually, inspect, run, run_with_input, start};

/// The lines of a running command as they come.
fn lines_of(mut command: Command) -> (Running, mpsc::Receiver<String>) {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let running = start(command);
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            if tx.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    (running, rx)
}

fn next(lines: &mpsc::Receiver<String>) -> String {
    lines.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn a_persistent_ring_is_looked_at_and_keeps_its_messages() {
    for options in [
        &["--persistent"][..],
        &["--persistent", "--kind", "stream"],
        &["--persistent", "--kind", "slots", "--message-size", "4", "--capacity", "16"],
    ] {
        let name = Name::created(options);
        run_with_input(&["send", &name, "--lines"], b"one.\ntwo.\nsix.\n").assert_done();
        for _ in 0..2 {
            assert_eq!(run(&["tail", &name, "--lines"]).text(), "one.\ntwo.\nsix.\n");
        }
        assert_eq!(run(&["tail", &name, "--lines", "-n", "2"]).text(), "two.\nsix.\n");
        assert_eq!(run(&["tail", &name, "-n", "0"]).text(), "");
        let (follower, lines) = lines_of(annulus(&["tail", &name, "--lines", "-f", "-n", "1"]));
        assert_eq!(next(&lines), "six.");
        run(&["recv", &name]).assert_fails(6, "is the receiver");
        run(&["tail", &name]).assert_fails(6, "nobody else can look");
        run_with_input(&["send", &name, "--lines"], b"ten.\n").assert_done();
        assert_eq!(next(&lines), "ten.");
        follower.signal(Signal::SIGINT);
        assert_eq!(follower.wait().code, 130);
        let all = run(&["recv", &name, "--lines", "--no-wait"]);
        assert_eq!(all.text(), "one.\ntwo.\nsix.\nten.\n");
        assert_eq!(run(&["tail", &name]).text(), "");
    }
}

#[test]
fn where_it_cannot_look_it_says_why() {
    let name = Name::created(&[]);
    let (_sender, _stdin) = Running::with_stdin(&["send", &name]);
    eventually("the sender is there", || inspect(&name)["senders"] == 1);
    run(&["tail", &name]).assert_fails(6, "the sender ends");
    for topology in ["mpsc", "spmc", "mpmc"] {
        let name =
            Name::created(&["--kind", "slots", "--message-size", "4", "--topology", topology]);
        run(&["tail", &name]).assert_fails(6, "shared sides");
    }
    let lanes = Name::created(&["--topology", "mpsc", "--persistent"]);
    run_with_input(&["send", &lanes], b"one\n").assert_done();
    run(&["tail", &lanes]).assert_fails(6, "lane");
    assert_eq!(run(&["recv", &lanes, "--no-wait"]).text(), "one\n");
    let lock = Name::created(&["--kind", "semaphore"]);
    run(&["tail", &lock]).assert_fails(8, "this is a semaphore");
    run(&["tail", &Name::new()]).assert_fails(3, "nothing of that name");
    // Nobody has it open but the one who looks, and it stays.
    let name = Name::created(&[]);
    assert_eq!(run(&["tail", &name]).code, 0);
    assert!(name.exists());
    run(&["tail", &name, "--type", "1"]).assert_fails(2, "mailboxes");
}

#[test]
fn a_broadcast_is_followed_to_its_end() {
    let name = Name::created(&["--kind", "broadcast"]);
    let (follower, lines) = lines_of(annulus(&["tail", &name, "-f"]));
    eventually("it is there", || inspect(&name)["receivers"] == 1);
    let (sender, mut stdin) = Running::with_stdin(&["send", &name]);
    for i in 0..100 {
        writeln!(stdin, "{i}").unwrap();
        assert_eq!(next(&lines), i.to_string());
    }
    assert_eq!(inspect(&name)["participants"][1]["delivery"], "lossy");
    // Some of what is there, for one who comes late.
    let late = run(&["tail", &name, "-n", "3"]);
    assert_eq!(late.text(), "97\n98\n99\n");
    drop(stdin);
    sender.wait().assert_done();
    let done = follower.wait();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn a_mailbox_is_followed_beside_its_receivers() {
    let name = Name::created(&["--kind", "mailbox", "--types", "3"]);
    run_with_input(&["send", &name, "--type", "2"], b"early\nearly too\n").assert_done();
    assert_eq!(run(&["tail", &name]).text(), "early\nearly too\n");
    assert_eq!(run(&["tail", &name, "--type", "1"]).text(), "");
    let (follower, lines) = lines_of(annulus(&["tail", &name, "-f", "--except", "3"]));
    assert_eq!([next(&lines), next(&lines)], ["early", "early too"]);
    for i in 0..50_u32 {
        let kind = (i % 2 + 1).to_string();
        run_with_input(&["send", &name, "--type", &kind], format!("{i}\n").as_bytes())
            .assert_done();
        run_with_input(&["send", &name, "--type", "3"], b"hidden\n").assert_done();
        assert_eq!(next(&lines), i.to_string());
        // What was seen is taken by others.
        assert_eq!(run(&["recv", &name, "-n", "2", "--no-wait"]).code, 0);
    }
    follower.signal(Signal::SIGTERM);
    assert_eq!(follower.wait().code, 130);
    assert!(lines.try_recv().is_err());
}

/// Takes and sends at about the pace of looks, so that what one counts moves under it and is there in the next.
/// Each look costs as much as there is, and not its square.
#[test]
fn a_mailbox_that_holds_much_is_looked_at_in_one_go() {
    let name = Name::created(&["--kind", "mailbox", "--capacity", "262144", "--types", "1"]);
    let lines: String = (0..262_144).map(|i| format!("{i}\n")).collect();
    run_with_input(&["send", &name, "--lines"], lines.as_bytes()).assert_done();
    assert_eq!(run(&["tail", &name, "--lines"]).text(), lines);
    assert_eq!(run(&["tail", &name, "--lines", "-n", "1"]).text(), "262143\n");
    assert_eq!(inspect(&name)["used"], 262_144);
}

#[test]
fn what_others_take_meanwhile_makes_nothing_seen_twice() {
    let name = Name::created(&["--kind", "mailbox", "--types", "2", "--capacity", "32"]);
    let mailbox = Mailbox::open(Place::name(&name).unwrap()).unwrap();
    let (mut tx, mut rx) = (mailbox.sender().unwrap(), mailbox.receiver().unwrap());
    let (follower, lines) = lines_of(annulus(&["tail", &name, "-f"]));
    let (mut seen, mut sent, mut buffer) = (HashSet::new(), 0_u32, [0; 1024]);
    while seen.len() < 3000 {
        for kind in [1, 2, 1] {
            tx.send(kind, format!("{sent}\n").as_bytes()).unwrap();
            sent += 1;
        }
        while mailbox.len() > 24 {
            rx.try_recv(Select::Any, &mut buffer).unwrap();
            std::thread::sleep(Duration::from_micros(20));
        }
        for line in lines.try_iter() {
            assert!(seen.insert(line.clone()), "{line} again, after {} others", seen.len());
        }
    }
    follower.signal(Signal::SIGINT);
    assert_eq!(follower.wait().code, 130);
}

#[test]
fn a_sender_that_never_stops_keeps_nobody() {
    let name = Name::created(&["--kind", "broadcast", "--capacity", "16", "--persistent"]);
    let news = ByteBroadcast::open(Place::name(&name).unwrap()).unwrap();
    let mut tx = news.sender().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Raised(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                tx.send(&[b'x'; 1000]).unwrap();
            }
        });
        // It is shown no more than was there, though more comes than its reader takes.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = annulus(&["tail", &name]);
        command.stdout(writer);
        let tail = start(command);
        scope.spawn(move || {
            let mut some = [0; 4096];
            while reader.read(&mut some).unwrap() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(tail.wait().code, 0);
    });
}

/// Raises a flag when it goes, also in a panic.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_variable_is_followed_from_version_to_version() {
    let name = Name::created(&["--kind", "latest", "--message-size", "4", "--persistent"]);
    assert_eq!(run(&["tail", &name]).text(), "");
    let (follower, lines) = lines_of(annulus(&["tail", &name, "-f", "--lines"]));
    for i in 0..20 {
        let value = format!("{i:04}");
        run(&["set", &name, &value]).assert_done();
        assert_eq!(next(&lines), value);
    }
    assert_eq!(run(&["tail", &name, "--lines"]).text(), "0019\n");
    follower.signal(Signal::SIGKILL);
    follower.wait();
    run(&["set", &name, "more"]).assert_done();

    let ended = Name::created(&["--kind", "latest", "--message-size", "4"]);
    run(&["set", &ended, "last"]).assert_done();
    assert_eq!(run(&["tail", &ended, "-f"]).text(), "last");
}

#[test]
fn a_reader_that_leaves_is_a_quiet_end() {
    for kind in [&["--kind", "broadcast"][..], &["--kind", "mailbox"], &["--kind", "bytes"]] {
        let name = Name::created(&[kind, &["--persistent"]].concat());
        let mut command = annulus(&["tail", &name, "-f"]);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let follower = start(command);
        eventually("it is there", || inspect(&name)["receivers"] == 1);
        drop(reader);
        follower.wait().assert_done();
    }
}
