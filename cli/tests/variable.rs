//! `get` and `set`: variables from the shell.

mod support;

use nix::sys::signal::Signal;
use support::{Name, Running, annulus, eventually, inspect, noise, run, run_with_input, start};

fn variable(size: &str, options: &[&str]) -> Name {
    Name::created(&[&["--kind", "latest", "--message-size", size], options].concat())
}

#[test]
fn a_value_is_got_as_it_was_set() {
    let name = variable("8", &["--message-align", "8", "--label", "price/1"]);
    assert_eq!(run(&["get", &name]).stdout, [0; 8]);
    let json = run(&["get", &name, "--json"]).json();
    assert_eq!((&json["version"], &json["hex"]), (&0.into(), &"0000000000000000".into()));
    run(&["set", &name, "eightby+"]).assert_done();
    assert_eq!(run(&["get", &name]).text(), "eightby+");
    run_with_input(&["set", &name], b"\0\x01\xff\n1234").assert_done();
    assert_eq!(run(&["get", &name, "--hex"]).text(), "0001ff0a31323334\n");
    let json = run(&["get", &name, "--json"]).json();
    assert_eq!((&json["version"], &json["size"], json.get("text")), (&2.into(), &8.into(), None));
    run_with_input(&["set", &name, "--hex"], b"ff 00 00 00\n 00000001\n").assert_done();
    assert_eq!(run(&["get", &name]).stdout, [255, 0, 0, 0, 0, 0, 0, 1]);
    let done = run(&["set", &name, "-v", "--pad", "-x"]);
    assert!(done.code == 0 && done.stderr.contains("version 4"), "{done:?}");
    assert_eq!(run(&["get", &name]).stdout, b"-x\0\0\0\0\0\0");
    let ring = inspect(&name);
    assert_eq!((&ring["kind"], &ring["version"]), (&"latest".into(), &4.into()));
    assert!(run(&["inspect", &name]).text().contains("version 4, of 8 B aligned to 8"));
    assert!(run(&["ls"]).text().contains(&*name));
    assert!(name.exists(), "each of those was its only user");

    let large = variable("1M", &[]);
    let bytes = noise(7, 1 << 20);
    run_with_input(&["set", &large], &bytes).assert_done();
    assert!(run(&["get", &large]).stdout == bytes);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let name = variable("4", &[]);
    for wrong in ["", "abc", "abcde"] {
        run(&["set", &name, wrong]).assert_fails(2, "exactly 4");
        run_with_input(&["set", &name], wrong.as_bytes()).assert_fails(2, "exactly 4");
    }
    run(&["set", &name, "a"])
        .assert_fails(2, "has 1 byte, and the variable exactly 4; give as many, or");
    run_with_input(&["set", &name], &[0; 100_000]).assert_fails(2, "or more bytes");
    run(&["set", &name, "--pad", "abcde"]).assert_fails(2, "exactly 4");
    for (wrong, why) in [("0", "1 digit:"), ("0000000g", "character 8 is 'g'"), ("0x000000", "'x'")]
    {
        run(&["set", &name, "--hex", wrong]).assert_fails(2, why);
    }
    run_with_input(&["set", &name, "--hex"], &[b'0'; 1001]).assert_fails(2, "or more bytes");
    run(&["get", &name, "--timeout", "1s"]).assert_fails(2, "--wait");
    assert_eq!(inspect(&name)["version"], 0);
    for verb in ["send", "recv"] {
        run(&[verb, &name]).assert_fails(8, "this is a variable");
    }
    run(&["acquire", &name, "--", "true"]).assert_fails(8, "this is a variable");
    run(&["raise", &name, "1"]).assert_fails(8, "`annulus get`");
    run(&["wait", &name, "1"]).assert_fails(8, "`annulus get`");
    run(&["tail", &name, "--type", "1"]).assert_fails(2, "mailboxes");
    let ring = Name::created(&[]);
    run(&["get", &ring]).assert_fails(8, "`annulus recv`");
    run(&["set", &ring, "x"]).assert_fails(8, "`annulus recv`");
    let event = Name::created(&["--kind", "event", "--persistent"]);
    run(&["get", &event]).assert_fails(8, "this is an event");
    run(&["tail", &event]).assert_fails(8, "this is an event");
    run(&["send", &event]).assert_fails(8, "`annulus raise`");
    let absent = Name::new();
    run(&["get", &absent]).assert_fails(3, "no such variable");
    run(&["set", &absent, "x"]).assert_fails(3, "no such variable");
}

#[test]
fn waiting_ends_with_a_later_version_a_time_out_or_the_writer() {
    let name = variable("4", &["--persistent"]);
    let waiter = start(annulus(&["get", &name, "--wait"]));
    let behind = start(annulus(&["get", &name, "--json", "--after", "1"]));
    eventually("both wait", || inspect(&name)["receivers"] == 2);
    run(&["set", &name, "one."]).assert_done();
    assert_eq!(waiter.wait().text(), "one.");
    run(&["set", &name, "two."]).assert_done();
    let json = behind.wait().json();
    assert_eq!((&json["version"], &json["text"]), (&2.into(), &"two.".into()));
    // That one is there already.
    assert_eq!(run(&["get", &name, "--after", "1"]).text(), "two.");
    run(&["get", &name, "--wait", "--timeout", "30ms"]).assert_fails(124, "deadline");
    run(&["get", &name, "--after", "2", "--timeout", "30ms"]).assert_fails(124, "deadline");

    let waiter = start(annulus(&["get", &name, "--wait"]));
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    waiter.signal(Signal::SIGINT);
    waiter.wait().assert_fails(130, "interrupted");
    let killed = start(annulus(&["get", &name, "--wait"]));
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    run(&["set", &name, "six."]).assert_done();
    assert_eq!(run(&["get", &name]).text(), "six.");

    // Nobody would read what it waits for.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut unread = annulus(&["get", &name, "--wait"]);
    unread.stdout(writer);
    let unread = start(unread);
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    drop(reader);
    unread.wait().assert_done();

    let name = variable("4", &[]);
    run(&["set", &name, "last"]).assert_done();
    run(&["get", &name, "--wait"]).assert_fails(7, "--persistent");
    assert_eq!(run(&["get", &name]).text(), "last");
}

#[test]
fn ctrl_c_ends_one_who_is_still_to_be_told_the_value() {
    let name = variable("4", &[]);
    let (setter, _stdin) = Running::with_stdin(&["set", &name]);
    eventually("it has it open", || inspect(&name)["state"] == "idle");
    // It has no role before it has the value.
    run(&["set", &name, "fast"]).assert_done();
    setter.signal(Signal::SIGINT);
    setter.wait().assert_fails(130, "interrupted");
    assert_eq!(run(&["get", &name]).text(), "fast");
}

#[test]
fn readers_are_so_many_and_no_more() {
    let name = variable("4", &["--receivers", "1", "--persistent"]);
    let waiter = start(annulus(&["get", &name, "--wait"]));
    eventually("it waits", || inspect(&name)["receivers"] == 1);
    run(&["get", &name]).assert_fails(6, "1");
    run(&["set", &name, "done"]).assert_done();
    assert_eq!(waiter.wait().text(), "done");
    assert_eq!(run(&["get", &name]).text(), "done");
}
