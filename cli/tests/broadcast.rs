//! Broadcasts and streams from the shell.

mod support;

use nix::sys::signal::Signal;
use std::io::Write;
use support::{Name, Running, annulus, eventually, inspect, noise, run, run_with_input, start};

fn broadcast(options: &[&str]) -> Name {
    Name::created(&[&["--kind", "broadcast"], options].concat())
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn every_receiver_gets_everything() {
    let name = broadcast(&["--capacity", "64"]);
    let receivers: Vec<_> = (0..3).map(|_| start(annulus(&["recv", &name]))).collect();
    let input = numbers(1..=5000);
    let sender =
        Running::with_input(&["send", &name, "--receivers", "3"], input.clone().into_bytes());
    for receiver in receivers {
        let done = receiver.wait();
        assert_eq!((done.code, done.text()), (0, input.as_str()));
    }
    sender.wait().assert_done();
    assert!(!name.exists());
}

#[test]
fn messages_of_one_size_are_for_typed_programs() {
    let name = broadcast(&["--message-size", "8", "--message-align", "8", "--persistent"]);
    let ring = inspect(&name);
    assert_eq!((&ring["kind"], &ring["message_align"]), (&"broadcast".into(), &8.into()));
    let receiver = start(annulus(&["recv", &name, "-n", "1000"]));
    let bytes = noise(3, 8000);
    run_with_input(&["send", &name, "--receivers", "1"], &bytes).assert_done();
    assert_eq!(receiver.wait().stdout, bytes);
    run_with_input(&["send", &name], b"seven..").assert_fails(1, "7 bytes");
    run_with_input(&["send", &name, "--lines"], b"seven..\n").assert_fails(1, "exactly 8");
}

#[test]
fn who_is_too_slow_is_told_exactly_how_many_it_missed() {
    let name = broadcast(&["--capacity", "4", "--persistent", "--message-size", "1024"]);
    // It reads, and its output is full: nobody reads that.
    let mut command = annulus(&["recv", &name, "--lossy"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let receiver = start(command);
    eventually("it is there", || inspect(&name)["receivers"] == 1);
    let count = 4000;
    let input: Vec<u8> = (0..count).flat_map(|i: u32| [i.to_le_bytes(); 256].concat()).collect();
    run_with_input(&["send", &name], &input).assert_done();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut all).unwrap();
        all
    });
    eventually("it is up to date", || inspect(&name)["used"] == 0);
    receiver.signal(Signal::SIGINT);
    let done = receiver.wait();
    assert_eq!(done.code, 130, "{done:?}");
    let all = reading.join().unwrap();
    let found: Vec<u32> = all
        .chunks_exact(1024)
        .map(|message| {
            assert!(message.chunks(4).all(|word| word == &message[..4]), "a torn message");
            u32::from_le_bytes(message[..4].try_into().unwrap())
        })
        .collect();
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
    let missed: u64 = done
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("annulus: {}: ", &*name)))
        .map(|line| {
            let (number, rest) = line.split_once(' ').unwrap();
            assert!(rest.starts_with("message"), "{line}");
            number.parse::<u64>().unwrap()
        })
        .sum();
    assert!(missed > 0, "{done:?}");
    assert_eq!(found.len() as u64 + missed, u64::from(count));
}

#[test]
fn a_gate_holds_the_sender_until_it_is_evicted_or_dies() {
    let name = broadcast(&["--capacity", "4", "--persistent"]);
    let stopped = start(annulus(&["recv", &name]));
    let alive = || {
        let ring = inspect(&name);
        let members = ring["participants"].as_array().unwrap().clone();
        members.into_iter().find(|who| who["role"] == "receiver" && who["state"] == "alive")
    };
    eventually("it is there", || alive().is_some());
    stopped.signal(Signal::SIGSTOP);
    assert_eq!(alive().unwrap()["delivery"], "gate");
    let input = numbers(1..=20).into_bytes();
    run_with_input(&["send", &name, "--no-wait"], &input).assert_fails(6, "4 messages sent");
    run_with_input(&["send", &name, "--timeout", "80ms"], &input).assert_fails(124, "0 messages");
    assert_eq!(alive().unwrap()["behind"], 4);
    assert!(run(&["inspect", &name]).text().contains("gate, 4 behind"));
    // Shorter than a slice of the command's waits, and longer.
    run_with_input(&["send", &name, "--patience", "120ms"], &input).assert_done();
    assert_eq!(alive().unwrap()["delivery"], "evicted");
    stopped.signal(Signal::SIGCONT);
    let done = stopped.wait();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("waited too long"), "{done:?}");

    let killed = start(annulus(&["recv", &name]));
    eventually("it is there", || alive().is_some());
    killed.signal(Signal::SIGSTOP);
    let sender = Running::with_input(&["send", &name], numbers(1..=1000).into_bytes());
    eventually("it holds the sender", || alive().unwrap()["behind"] == 4);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    sender.wait().assert_done();
}

#[test]
fn one_begins_with_the_oldest_or_with_what_comes() {
    let name = broadcast(&["--persistent", "--capacity", "8"]);
    run_with_input(&["send", &name], numbers(1..=4).as_bytes()).assert_done();
    run(&["recv", &name, "--no-wait"]).assert_fails(6, "empty");
    let oldest = ["recv", &name, "--no-wait", "--from", "oldest"];
    // It is there for everybody.
    for _ in 0..2 {
        assert_eq!(run(&oldest).text(), numbers(1..=4));
    }
    run_with_input(&["send", &name], numbers(5..=40).as_bytes()).assert_done();
    let rest = run(&oldest);
    assert!(numbers(5..=40).ends_with(rest.text()) && rest.text().lines().count() >= 4, "{rest:?}");
    let late = start(annulus(&["recv", &name, "-n", "1"]));
    eventually("it is there", || inspect(&name)["receivers"] == 1);
    run_with_input(&["send", &name], b"41\n").assert_done();
    assert_eq!(late.wait().text(), "41\n");
}

#[test]
fn the_end_and_its_codes() {
    let name = broadcast(&["--receivers", "1"]);
    run(&["send", &name, "--timeout", "30ms"]).assert_fails(124, "no receiver came");
    let name = broadcast(&["--receivers", "1"]);
    let receiver = start(annulus(&["recv", &name]));
    eventually("it is there", || inspect(&name)["receivers"] == 1);
    run(&["recv", &name]).assert_fails(6, "1");
    let (sender, mut stdin) = Running::with_stdin(&["send", &name]);
    stdin.write_all(b"all\nof it\nhalf a li").unwrap();
    eventually("two lines are through", || inspect(&name)["received"] == 2);
    sender.signal(Signal::SIGKILL);
    sender.wait();
    let done = receiver.wait();
    assert_eq!((done.code, done.text()), (7, "all\nof it\n"));
    run(&["recv", &name, "--gate", "--lossy"]).code.eq(&2).then_some(()).unwrap();

    let name = broadcast(&["--persistent"]);
    run(&["send", &name, "--receivers", "2", "--timeout", "30ms"]).assert_fails(124, "0 of 2");
    let receiver = start(annulus(&["recv", &name]));
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    receiver.signal(Signal::SIGTERM);
    receiver.wait().assert_fails(130, "interrupted");
}

#[test]
fn a_stream_is_bytes_whatever_is_in_them() {
    for options in [&["--capacity", "4096"][..], &["--topology", "mpsc", "--participants", "2"]] {
        let name = Name::created(&[&["--kind", "stream"], options].concat());
        assert_eq!(inspect(&name)["label"], "stream");
        let reader = start(annulus(&["recv", &name]));
        // No line end for longer than any message can be.
        let bytes = noise(9, 3_000_000);
        let writer = Running::with_input(&["send", &name], bytes.clone());
        let done = reader.wait();
        assert!(done.code == 0 && done.stdout == bytes, "{} bytes", done.stdout.len());
        writer.wait().assert_done();
    }
    // Known by its label, which may be another: then it is said.
    let name = Name::created(&["--kind", "stream", "--label", "mine", "--persistent"]);
    run_with_input(&["send", &name, "--raw"], b"no end").assert_done();
    run_with_input(&["send", &name, "--raw"], b" of line").assert_done();
    assert_eq!(run(&["recv", &name, "--raw", "--no-wait"]).text(), "no end of line");
}

#[test]
fn options_are_for_the_kinds_that_have_them() {
    let name = Name::new();
    let create = |args: &str| {
        run(&[&["create", &name, "--kind"], &args.split(' ').collect::<Vec<_>>()[..]].concat())
    };
    for (args, why) in [
        ("broadcast --topology mpmc", "--topology is for --kind bytes"),
        ("broadcast --message-align 8", "--message-size"),
        ("broadcast --participants 2", "--participants is for"),
        ("broadcast --types 3", "--types is for --kind mailbox"),
        ("latest", "--message-size"),
        ("latest --message-size 8 --capacity 3", "--capacity is for"),
        ("latest --message-size 12 --message-align 8", "alignment"),
        ("mailbox --message-size 8", "--message-size is for"),
        ("mailbox --ordered", "--ordered is for"),
        ("stream --longest 8", "--longest is for"),
        ("stream --ordered", "--topology mpsc"),
        ("stream --topology mpmc", "one receiver"),
        ("event --capacity 3", "--capacity is for"),
        ("event --participants 3", "--participants is for"),
        ("semaphore --message-size 3", "--message-size is for"),
        ("bytes --initial 3", "--initial is for --kind semaphore"),
        ("bytes --receivers 3", "--receivers is for --kind broadcast"),
    ] {
        create(args).assert_fails(2, why);
    }
    for args in
        ["mailbox --types 65", "mailbox --types 0", "broadcast --longest 1 --message-size 1"]
    {
        assert_eq!(create(args).code, 2, "{args}");
    }
    assert!(!name.exists());
    let made = create("mailbox --types 2 --capacity 5 -v");
    assert!(
        made.code == 0 && made.stderr.contains("8 messages of 1 KiB at most, of each type"),
        "{made:?}"
    );
}
