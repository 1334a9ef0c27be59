//! How `send` and `recv` end: by count, by time, by the other side, by a signal, by `head`.

mod support;

use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Name, Running, annulus, eventually, inspect, run, run_with_input, start};

fn numbers(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn recv_stops_after_n_and_the_rest_stays() {
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name], &numbers(10)).assert_done();
    assert_eq!(run(&["recv", &name, "-n", "3"]).text(), "1\n2\n3\n");
    assert_eq!(run(&["recv", &name, "-n", "1", "--raw"]).text(), "4\n");
    assert_eq!(inspect(&name)["received"], 4);
    assert_eq!(run(&["recv", &name, "--no-wait"]).text(), "5\n6\n7\n8\n9\n10\n");
    run(&["recv", &name, "--no-wait"]).assert_fails(6, "empty");
    assert!(name.exists());
}

#[test]
fn time_outs_are_124() {
    let name = Name::created(&["--persistent", "--capacity", "1000"]);
    run_with_input(&["send", &name], b"one\n").assert_done();
    let begin = Instant::now();
    let done = run(&["recv", &name, "--timeout", "150ms"]);
    done.assert_fails(124, "deadline");
    assert_eq!(done.text(), "one\n");
    assert!(begin.elapsed() >= Duration::from_millis(150));
    // Nobody makes room.
    let done = run_with_input(&["send", &name, "--timeout", "100ms"], &numbers(1000));
    done.assert_fails(124, "messages sent");
    run_with_input(&["send", &name, "--no-wait"], &numbers(1000)).assert_fails(6, "full");

    let name = Name::created(&[]);
    run(&["recv", &name, "--no-wait"]).assert_fails(6, "empty");
    run(&["send", &name, "--timeout", "50ms"]).assert_fails(124, "no receiver came");
    run(&["recv", &name, "--timeout", "50ms"]).assert_fails(124, "deadline");
    run(&["send", &name, "--no-wait"]).assert_fails(6, "nobody receives");
    assert!(name.exists(), "whoever waits in vain leaves it for the next attempt");
    // Senders have been there and have left: that is the end, as a FIFO without writers says.
    run(&["recv", &name, "--no-wait"]).assert_done();
    let name = Name::new();
    run(&["send", &name, "--create", "--no-wait"]).assert_fails(6, "nobody receives");
    run(&["recv", &name, "--create", "--timeout", "50ms"]).assert_fails(124, "deadline");
    run(&["send", &name, "--create", "--lines", "--chunk", "5"]).assert_fails(2, "--raw");
    run(&["recv", &name, "--create", "--type", "5"]).assert_fails(2, "mailbox");
    assert!(!name.exists(), "and removes what it made");
}

#[test]
fn a_sender_waits_for_its_receiver_and_lingers_for_it() {
    let name = Name::created(&[]);
    let mut sender = Running::with_input(&["send", &name], numbers(5));
    eventually("the sender is there", || inspect(&name)["senders"] == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(sender.is_running());
    assert_eq!(inspect(&name)["sent"], 0);
    assert_eq!(run(&["recv", &name]).text(), "1\n2\n3\n4\n5\n");
    sender.wait().assert_done();
    assert!(!name.exists());
}

#[test]
fn nothing_at_all_is_a_conversation_too() {
    for _ in 0..20 {
        let name = Name::created(&[]);
        let sender = start(annulus(&["send", &name]));
        assert_eq!(run(&["recv", &name]).code, 0);
        sender.wait().assert_done();
        assert!(!name.exists());
    }
}

#[test]
fn a_receiver_that_leaves_early_is_7_with_what_it_left() {
    let name = Name::created(&[]);
    let receiver = start(annulus(&["recv", &name, "-n", "4"]));
    let done = run_with_input(&["send", &name], &numbers(10));
    // It may notice before it has sent the rest.
    done.assert_fails(7, "the receiver has left");
    assert_eq!(receiver.wait().text(), "1\n2\n3\n4\n");
}

#[test]
fn a_killed_receiver_is_7() {
    // The sender has sent everything, or waits for room.
    for count in [10, 1_000_000] {
        let name = Name::created(&["--capacity", "4096"]);
        let mut command = annulus(&["recv", &name]);
        // Its output is full soon: nobody reads it.
        let (_reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        command.stdout(writer);
        let receiver = start(command);
        let sender = Running::with_input(&["send", &name], numbers(count));
        eventually("something is waiting", || inspect(&name)["used"].as_u64() > Some(0));
        receiver.signal(Signal::SIGKILL);
        assert_eq!(receiver.wait().code, 128 + 9);
        let done = sender.wait();
        done.assert_fails(7, "left unread");
        // What it had not written was not taken.
        if count == 10 {
            assert!(done.stderr.contains("10 messages"), "{done:?}");
        }
    }
}

/// Writes to a pipe until it takes no more.
fn fill(writer: &std::io::PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while (&*writer).write(&[0; 4096]).is_ok() {}
    while (&*writer).write(&[0]).is_ok() {}
    fcntl(writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

#[test]
fn a_killed_sender_ends_the_conversation() {
    let name = Name::created(&[]);
    let receiver = start(annulus(&["recv", &name]));
    let (sender, mut stdin) = Running::with_stdin(&["send", &name]);
    stdin.write_all(b"all\nof it\nhalf a li").unwrap();
    eventually("two lines are through", || inspect(&name)["received"] == 2);
    sender.signal(Signal::SIGKILL);
    sender.wait();
    let done = receiver.wait();
    assert_eq!(done.text(), "all\nof it\n");
    done.assert_fails(7, "the sender died");
    assert!(!name.exists());
}

/// Whoever reads what is printed could not tell it from an end.
#[test]
fn what_a_killed_sender_has_left_ends_with_7_whoever_prints_it() {
    let name = Name::created(&["--kind", "broadcast"]);
    let follower = start(annulus(&["tail", &name, "-f"]));
    let receiver = start(annulus(&["recv", &name]));
    eventually("both look", || inspect(&name)["receivers"] == 2);
    let (sender, mut lines) = Running::with_stdin(&["send", &name, "--no-wait"]);
    lines.write_all(b"one\ntwo\n").unwrap();
    eventually("both are sent", || inspect(&name)["sent"] == 2);
    sender.signal(Signal::SIGKILL);
    sender.wait();
    for done in [follower.wait(), receiver.wait()] {
        assert_eq!(done.text(), "one\ntwo\n");
        done.assert_fails(7, "the sender died");
    }
}

/// Whatever keeps a sender from sending all of it, its receivers do not take what they have for the whole.
#[test]
fn a_sender_that_fails_is_not_taken_for_one_that_is_done() {
    let kinds: [&[&str]; 4] = [
        &[],
        &["--kind", "slots", "--message-size", "3"],
        &["--kind", "broadcast", "--message-size", "3"],
        &["--topology", "mpsc"],
    ];
    for options in kinds {
        let name = Name::created(options);
        let receiver = start(annulus(&["recv", &name, "--lines"]));
        // The length of the second message is not there.
        let input = b"\x03\0\0\0one\x03";
        let sent = run_with_input(&["send", &name, "--len32"], input);
        sent.assert_fails(1, "into the length of message 2");
        let done = receiver.wait();
        assert_eq!(done.text().trim_end(), "one", "{options:?}");
        done.assert_fails(7, "gave up");
        assert!(!name.exists(), "{options:?}");
    }
}

/// What was left by the dead is still there, and a sender that died long ago ends nothing.
#[test]
fn successors_go_on_after_two_deaths() {
    let name = Name::created(&[]);
    let (sender, mut stdin) = Running::with_stdin(&["send", &name]);
    let mut command = annulus(&["recv", &name]);
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    command.stdout(writer);
    let receiver = start(command);
    stdin.write_all(b"1\n2\n").unwrap();
    eventually("two lines are there", || inspect(&name)["sent"] == 2);
    for process in [receiver, sender] {
        process.signal(Signal::SIGKILL);
        process.wait();
    }
    drop(reader);
    let ring = inspect(&name);
    assert_eq!(
        (&ring["state"], &ring["participants"][0]["state"]),
        (&"stale".into(), &"died".into())
    );
    let second = Name::created(&[]);
    std::fs::rename(name.file(), second.file()).unwrap();
    assert_eq!(run(&["recv", &second, "-n", "1"]).text(), "1\n");
    assert!(!second.exists(), "its last user has left");
}

#[test]
fn a_receiver_waits_for_a_new_sender_if_the_last_one_died_long_ago() {
    let name = Name::created(&[]);
    let (sender, _stdin) = Running::with_stdin(&["send", &name]);
    eventually("the sender is there", || inspect(&name)["senders"] == 1);
    sender.signal(Signal::SIGKILL);
    sender.wait();
    let mut receiver = start(annulus(&["recv", &name]));
    eventually("the receiver is there", || inspect(&name)["receivers"] == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(receiver.is_running());
    run_with_input(&["send", &name], b"at last\n").assert_done();
    assert_eq!(receiver.wait().text(), "at last\n");
}

#[test]
fn signals_are_130_and_leave_nothing() {
    // Under nohup it would be ignored, and so by the children, who respect that.
    // SAFETY: the default action needs no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigDfl) }
        .unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // A receiver that waits for its sender, and one that waits for a message.
        let name = Name::created(&[]);
        let receiver = start(annulus(&["recv", &name]));
        eventually("the receiver is there", || inspect(&name)["receivers"] == 1);
        receiver.signal(signal);
        receiver.wait().assert_fails(130, "interrupted");
        assert!(!name.exists(), "the last user removes the name");

        // A sender that waits for its receiver.
        let name = Name::created(&[]);
        let (sender, stdin) = Running::with_stdin(&["send", &name]);
        eventually("the sender is there", || inspect(&name)["senders"] == 1);
        sender.signal(signal);
        sender.wait().assert_fails(130, "interrupted");
        assert!(!name.exists());
        drop(stdin);

        // A sender that waits for input, and its receiver, which learns that it was not at its end.
        let name = Name::created(&[]);
        let receiver = start(annulus(&["recv", &name]));
        let (sender, mut stdin) = Running::with_stdin(&["send", &name]);
        stdin.write_all(b"one\ntw").unwrap();
        eventually("a line is through", || inspect(&name)["received"] == 1);
        sender.signal(signal);
        sender.wait().assert_fails(130, "interrupted");
        let done = receiver.wait();
        assert_eq!(done.text(), "one\n");
        done.assert_fails(7, "gave up");
        assert!(!name.exists());
    }
}

#[test]
fn signals_end_waits_for_room_and_for_output() {
    // A sender that waits for room.
    let name = Name::created(&["--persistent", "--capacity", "1000"]);
    let sender = Running::with_input(&["send", &name], numbers(10_000));
    eventually("it is full", || inspect(&name)["used"].as_u64() > Some(900));
    sender.signal(Signal::SIGINT);
    sender.wait().assert_fails(130, "left unread");
    // A receiver that waits for its output.
    let mut command = annulus(&["recv", &name]);
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    command.stdout(writer);
    let receiver = start(command);
    eventually("the receiver is there", || inspect(&name)["receivers"] == 1);
    std::thread::sleep(Duration::from_millis(50));
    receiver.signal(Signal::SIGINT);
    receiver.wait().assert_fails(130, "interrupted");
    let ring = inspect(&name);
    assert_eq!(ring["received"], 0, "nothing was written, nothing taken");
    // The next one gets everything.
    let done = run(&["recv", &name, "--no-wait"]);
    assert!(numbers(10_000).starts_with(&done.stdout) && !done.stdout.is_empty());
}

#[test]
fn a_sender_that_lingers_can_be_interrupted() {
    let name = Name::created(&[]);
    let mut command = annulus(&["recv", &name]);
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    command.stdout(writer);
    let receiver = start(command);
    let sender = Running::with_input(&["send", &name], numbers(3));
    eventually("it lingers", || {
        let ring = inspect(&name);
        ring["sent"] == 3 && ring["senders"] == 0
    });
    sender.signal(Signal::SIGTERM);
    sender.wait().assert_fails(130, "3 messages were left unread");
    drop(receiver);
}

#[test]
fn head_ends_recv_quietly_and_loses_nothing_that_was_not_printed() {
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name], &numbers(1000)).assert_done();
    let mut receiver = annulus(&["recv", &name]).spawn().unwrap();
    let mut head = Command::new("head")
        .args(["-n", "1"])
        .stdin(receiver.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(head.stdout.take().unwrap()).read_line(&mut line).unwrap();
    head.wait().unwrap();
    // It waits for more, and notices that nobody would read it.
    let done = receiver.wait_with_output().unwrap();
    assert_eq!((line.as_str(), done.status.code(), done.stderr), ("1\n", Some(0), vec![]));

    // A reader that has gone before anything was written costs no message.
    run_with_input(&["send", &name], &numbers(1000)).assert_done();
    let before = inspect(&name)["received"].as_u64().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = annulus(&["recv", &name]);
    command.stdout(writer);
    start(command).wait().assert_done();
    assert_eq!(inspect(&name)["received"], before);

    // One that goes in the middle of a large write costs what it was given, in whole messages.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = annulus(&["recv", &name, "--raw"]);
    command.stdout(writer);
    let receiver = start(command);
    let mut reader = BufReader::with_capacity(64, reader);
    reader.fill_buf().unwrap();
    drop(reader);
    receiver.wait().assert_done();
    run(&["rm", &name]).assert_done();
}

/// What is written is taken soon, so that a killed receiver leaves little to be printed twice.
#[test]
fn a_killed_receiver_has_printed_little_that_it_had_not_taken() {
    use nix::fcntl::{FcntlArg, fcntl};
    let name = Name::created(&["--persistent", "--capacity", "4M"]);
    let all = numbers(100_000);
    run_with_input(&["send", &name], &all).assert_done();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let room = fcntl(&reader, FcntlArg::F_GETPIPE_SZ).unwrap();
    let mut command = annulus(&["recv", &name]);
    command.stdout(writer);
    let receiver = start(command);
    eventually("much of it is in the pipe", || waiting(&reader) > room / 2);
    receiver.signal(Signal::SIGKILL);
    receiver.wait();
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    let rest = run(&["recv", &name, "--no-wait"]).stdout;
    let twice = (printed.len() + rest.len()).checked_sub(all.len()).unwrap();
    assert!(twice <= 32 * 1024 + 8, "{twice} bytes");
    printed.truncate(printed.len() - twice);
    assert!([printed, rest].concat() == all);
}

/// Bytes that can be read from a pipe.
fn waiting(pipe: &std::io::PipeReader) -> i32 {
    use std::os::fd::AsRawFd;
    let mut count = 0;
    // SAFETY: the descriptor is open, and there is room for the answer.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    assert_eq!(done, 0);
    count
}

#[test]
fn an_unread_listing_is_a_quiet_end() {
    let _name = Name::created(&[]);
    for verb in [&["ls"][..], &["ls", "--json"], &["doctor"], &["man"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = annulus(verb);
        command.stdout(writer);
        start(command).wait().assert_done();
    }
}

#[test]
fn whoever_cannot_join_leaves_the_ring() {
    use nix::sys::resource::{Resource, setrlimit};
    use std::os::unix::process::CommandExt;
    let names: [&[&str]; 4] = [
        &[],
        &["--kind", "slots", "--message-size", "8"],
        &["--kind", "broadcast"],
        &["--topology", "mpsc"],
    ];
    for options in names {
        let name = Name::created(options);
        let verbs: [&[&str]; 5] = [
            &["recv", &name, "--no-wait"],
            &["recv", &name, "--create"],
            &["send", &name],
            &["send", &name, "--create"],
            &["tail", &name],
        ];
        for verb in verbs {
            let mut command = annulus(verb);
            // As many as it takes to open the ring.
            let few = || setrlimit(Resource::RLIMIT_NOFILE, 4, 4).map_err(Into::into);
            // SAFETY: a system call.
            unsafe { command.pre_exec(few) };
            let done = start(command).wait();
            assert!(matches!(done.code, 1 | 6), "{done:?}");
            assert!(name.exists(), "{done:?}");
        }
        // --create is for what is not there; what is there was somebody else's to make.
        for verb in [&["tail", &name][..], &["recv", &name], &["recv", &name, "--create"]] {
            run(&[verb, &["--type", "3"]].concat()).assert_fails(2, "mailbox");
            assert!(name.exists());
        }
        run(&["recv", &name, "--create", "--timeout", "10ms"]).assert_fails(124, "deadline");
        run(&["send", &name, "--create", "--type", "3"]).assert_fails(2, "mailbox");
        assert!(name.exists());
    }
}

/// The same command with a standard stream closed.
fn without(fd: i32, args: &[&str]) -> support::Done {
    use std::os::unix::process::CommandExt;
    let mut command = annulus(args);
    // SAFETY: closes a descriptor of the child.
    unsafe {
        command.pre_exec(move || {
            libc::close(fd);
            Ok(())
        })
    };
    start(command).wait()
}

#[test]
fn a_closed_output_takes_no_message_and_a_closed_input_sends_none() {
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name], &numbers(3)).assert_done();
    let mailbox = Name::created(&["--kind", "mailbox"]);
    run_with_input(&["send", &mailbox], &numbers(1)).assert_done();
    let event = Name::created(&["--kind", "event"]);
    run(&["raise", &event, "5"]).assert_done();
    let absent = Name::new();
    let address = format!("@{}", &*absent);
    let verbs: [&[&str]; 9] = [
        &["listen", &address],
        &["connect", &address],
        &["get", &absent, "--wait"],
        &["recv", &name, "--no-wait"],
        &["recv", &mailbox, "--no-wait"],
        &["recv", &absent, "--create", "--no-wait"],
        &["tail", &name],
        &["wait", &event, "5", "--take"],
        &["ls"],
    ];
    for verb in verbs {
        without(1, verb).assert_fails(1, "standard output is not open");
        let mut command = annulus(verb);
        command.stdout(std::fs::File::open("/dev/null").unwrap());
        start(command).wait().assert_fails(1, "standard output is not open");
    }
    assert!(!absent.exists());
    assert_eq!(run(&["wait", &event, "5"]).text(), "5\n");
    for verb in [["send", &name], ["listen", &address], ["connect", &address]] {
        without(0, &verb).assert_fails(1, "standard input is not open");
    }
    assert_eq!(run(&["recv", &name, "--no-wait"]).text(), "1\n2\n3\n");
    assert_eq!(run(&["recv", &mailbox, "--no-wait"]).text(), "1\n");
}

#[test]
fn a_file_that_is_as_large_as_it_may_be_is_a_failure_and_loses_nothing() {
    use nix::sys::resource::{Resource, setrlimit};
    use std::os::unix::process::CommandExt;
    let limited = |args: &[&str]| {
        let mut command = annulus(args);
        let few = || setrlimit(Resource::RLIMIT_FSIZE, 4096, 4096).map_err(Into::into);
        // SAFETY: a system call.
        unsafe { command.pre_exec(few) };
        command
    };
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name], &numbers(3000)).assert_done();
    let mut file = tempfile::tempfile().unwrap();
    let mut command = limited(&["recv", &name]);
    command.stdout(file.try_clone().unwrap());
    start(command).wait().assert_fails(1, "standard output");
    let mut all = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 4096);
    // The last one need not be whole, and is printed again then.
    let whole = all.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    all.truncate(whole);
    all.extend(run(&["recv", &name, "--no-wait"]).stdout);
    assert!(all == numbers(3000));
    // The command of `acquire` is ended by the signal, as without us.
    let lock = Name::created(&["--kind", "semaphore"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("exec head -c 9999 /dev/zero > {}", file.path().display());
    let done = start(limited(&["acquire", &lock, "--", "sh", "-c", &script])).wait();
    assert_eq!(done.code, 128 + Signal::SIGXFSZ as i32, "{done:?}");
}

#[test]
fn a_full_disk_is_a_failure_and_loses_nothing() {
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name], &numbers(3)).assert_done();
    let mut command = annulus(&["recv", &name]);
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    start(command).wait().assert_fails(1, "standard output");
    assert_eq!(run(&["recv", &name, "--no-wait"]).text(), "1\n2\n3\n");
    for verb in [&["--help"][..], &["--version"], &["recv", "-h"], &["ls"], &["doctor"], &["man"]] {
        let mut command = annulus(verb);
        command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        start(command).wait().assert_fails(1, "standard output");
    }
}
