//! Mailboxes from the shell: types, selections, limits, removal, and what a killed process leaves.

mod support;

use nix::sys::signal::Signal;
use std::io::Write;
use std::process::Stdio;
use support::{Name, Running, annulus, eventually, inspect, noise, run, run_with_input, start};

fn mailbox(options: &[&str]) -> Name {
    Name::created(&[&["--kind", "mailbox"], options].concat())
}

fn send(name: &str, kind: u8, text: &str) {
    run_with_input(&["send", name, "--type", &kind.to_string()], text.as_bytes()).assert_done();
}

/// What one call gives now.
fn take(name: &str, selection: &[&str]) -> String {
    let args = [&["recv", name, "-n", "1", "--no-wait"], selection].concat();
    run(&args).text().to_owned()
}

#[test]
fn messages_are_chosen_by_the_rules_of_msgrcv() {
    let name = mailbox(&["--types", "8"]);
    for (kind, text) in
        [(3, "c1\n"), (1, "a1\n"), (5, "e1\n"), (3, "c2\n"), (1, "a2\n"), (5, "e2\n")]
    {
        send(&name, kind, text);
    }
    let ring = inspect(&name);
    assert_eq!((&ring["kind"], &ring["used"]), (&"mailbox".into(), &6.into()));
    assert_eq!(ring["by_type"], serde_json::json!([2, 0, 2, 0, 2, 0, 0, 0]));
    let text = run(&["inspect", &name]);
    assert!(text.text().contains("16 messages of each of 8 types"), "{text:?}");
    assert!(text.text().contains("type 3:       2 messages"), "{text:?}");
    assert_eq!(take(&name, &["--type", "5"]), "e1\n");
    assert_eq!(take(&name, &[]), "c1\n");
    assert_eq!(take(&name, &["--at-most", "4"]), "a1\n");
    assert_eq!(take(&name, &["--except", "1"]), "c2\n");
    assert_eq!(take(&name, &["--highest"]), "e2\n");
    assert_eq!(take(&name, &["--except", "1"]), "");
    run(&["recv", &name, "--except", "1", "--no-wait"]).assert_fails(6, "no such message");
    run(&["recv", &name, "--type", "2", "--timeout", "30ms"]).assert_fails(124, "no such message");
    assert_eq!(run(&["recv", &name, "--no-wait"]).text(), "a2\n");
    assert!(name.exists(), "a mailbox lasts until it is removed");
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let name = mailbox(&["--types", "4", "--capacity", "2", "--longest", "8"]);
    for verb in ["send", "recv"] {
        for wrong in ["0", "65", "-1", "x"] {
            let done = run(&[verb, &name, &format!("--type={wrong}")]);
            assert_eq!(done.code, 2, "{done:?}");
            assert!(done.stderr.contains("--type <T>"), "{done:?}");
        }
    }
    run_with_input(&["send", &name, "--type", "5"], b"x\n").assert_fails(2, "types 1 to 4");
    run(&["recv", &name, "--type", "5"]).assert_fails(2, "can ever match");
    run(&["tail", &name, "--type", "5"]).assert_fails(2, "can ever match");
    assert_eq!(run(&["recv", &name, "--type", "1", "--highest"]).code, 2);
    run(&["recv", &name, "--lossy"]).assert_fails(2, "--lossy is for broadcasts");
    run(&["recv", &name, "--from", "now"]).assert_fails(2, "--from is for broadcasts");
    run(&["send", &name, "--receivers", "1"]).assert_fails(2, "--receivers is for broadcasts");
    run_with_input(&["send", &name], b"eight by\n").assert_fails(1, "longest message of 8 bytes");
    send(&name, 1, "1\n2\n");
    run_with_input(&["send", &name, "--no-wait"], b"3\n").assert_fails(6, "no room");
    run_with_input(&["send", &name, "--timeout", "30ms"], b"3\n").assert_fails(124, "0 messages");
    // One that is full holds up no other type.
    send(&name, 2, "3\n");
    let only = mailbox(&["--types", "1"]);
    run(&["recv", &only, "--except", "1"]).assert_fails(2, "can ever match");

    let ring = Name::created(&[]);
    run_with_input(&["send", &ring, "--type", "1"], b"x\n").assert_fails(2, "is for mailboxes");
    run(&["recv", &ring, "--at-most", "1"]).assert_fails(2, "is for mailboxes");
    for verb in ["get", "set"] {
        run(&[verb, &name, "x"][..if verb == "get" { 2 } else { 3 }])
            .assert_fails(8, "this is a mailbox");
    }
}

#[test]
fn messages_of_any_bytes_come_out_as_they_went_in() {
    let name = mailbox(&["--types", "1", "--capacity", "1024", "--longest", "4096"]);
    let bytes = noise(5, 1_000_000);
    run_with_input(&["send", &name, "--raw"], &bytes).assert_done();
    let done = run(&["recv", &name, "--raw", "--no-wait"]);
    assert!(done.code == 0 && done.stdout == bytes);
}

#[test]
fn removal_ends_every_wait() {
    let name = mailbox(&["--types", "2", "--capacity", "1"]);
    send(&name, 1, "1\n");
    let receiver = start(annulus(&["recv", &name, "--type", "2"]));
    let follower = start(annulus(&["tail", &name, "-f", "--type", "2"]));
    let sender = Running::with_input(&["send", &name], b"2\n".to_vec());
    eventually("all wait", || {
        let ring = inspect(&name);
        ring["participants"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|who| who["state"] == "alive")
            .count()
            == 3
    });
    run(&["rm", &name]).assert_fails(6, "in use");
    run(&["rm", "--force", &name]).assert_done();
    assert!(!name.exists());
    for process in [receiver, follower, sender] {
        let done = process.wait();
        assert_eq!(done.code, 7, "{done:?}");
        assert!(done.stderr.contains("the mailbox was removed"), "{done:?}");
    }
    run(&["recv", &name]).assert_fails(3, "nothing of that name");
}

#[test]
fn a_killed_receiver_leaves_the_messages_and_a_killed_sender_what_it_sent() {
    let name = mailbox(&["--types", "2"]);
    let receiver = start(annulus(&["recv", &name]));
    let (sender, mut stdin) = Running::with_stdin(&["send", &name, "--type", "2"]);
    eventually("both are there", || {
        inspect(&name)["senders"] == 1 && inspect(&name)["receivers"] == 1
    });
    receiver.signal(Signal::SIGKILL);
    receiver.wait();
    stdin.write_all(b"one\ntwo\nhalf a li").unwrap();
    eventually("two lines are there", || inspect(&name)["used"] == 2);
    sender.signal(Signal::SIGKILL);
    sender.wait();
    assert_eq!(run(&["recv", &name, "--no-wait"]).text(), "one\ntwo\n");
}

#[test]
fn ctrl_c_is_130_and_a_reader_that_leaves_a_quiet_end() {
    let name = mailbox(&["--types", "1"]);
    let receiver = start(annulus(&["recv", &name]));
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    receiver.signal(Signal::SIGINT);
    receiver.wait().assert_fails(130, "interrupted");

    let mut command = annulus(&["recv", &name]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stdin(Stdio::null());
    let receiver = start(command);
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    drop(reader);
    receiver.wait().assert_done();
    // Nothing was taken for nobody.
    send(&name, 1, "1\n2\n");
    assert_eq!(inspect(&name)["used"], 2);
    let mut head = annulus(&["recv", &name]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    head.stdout(writer);
    start(head).wait().assert_done();
    assert_eq!(inspect(&name)["used"], 2);
}

#[test]
fn who_has_sent_and_gone_is_not_still_to_come() {
    let name = mailbox(&[]);
    assert!(run(&["inspect", &name]).text().contains("nobody yet"));
    run_with_input(&["send", &name], b"one\n").assert_done();
    // It takes the place in the table that the sender had.
    run(&["recv", &name, "-n", "1"]).assert_done();
    let text = run(&["inspect", &name]);
    assert!(text.text().contains("sender:       nobody now"), "{text:?}");
}
