//! Semaphores and events from the shell.

mod support;

use serde_json::Value;
use std::process::Stdio;
use support::{Name, annulus, eventually, inspect, run};

#[test]
fn a_command_runs_with_a_permit_and_its_code_comes_back() {
    let name = Name::new();
    run(&["create", &name, "--kind", "semaphore", "--capacity", "2", "--persistent"]).assert_done();
    let ring = inspect(&name);
    let fields = [("kind", Value::from("semaphore")), ("capacity", 2.into()), ("value", 2.into())];
    for (field, value) in fields {
        assert_eq!(ring[field], value, "{field}");
    }
    let code = |args: &[&str]| annulus(args).output().unwrap().status.code();
    assert_eq!(code(&["acquire", &name, "--", "true"]), Some(0));
    assert_eq!(code(&["acquire", &name, "--", "sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["acquire", &name, "--", "sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["acquire", &name, "-n", "3", "--", "true"]), Some(2));
    let none = run(&["acquire", &name, "-n", "0", "--", "true"]);
    assert!(none.code == 2 && none.stderr.contains("'0' for '--count <N>'"), "{none:?}");
    // As of shells, `env` and `timeout`.
    let text = tempfile::NamedTempFile::new().unwrap();
    let text = text.path().to_str().unwrap();
    run(&["acquire", &name, "--", text]).assert_fails(126, text);
    run(&["acquire", &name, "--", "/no/such/program"]).assert_fails(127, "/no/such/program");
    run(&["acquire", "no-such-semaphore", "--", "true"]).assert_fails(3, "no such semaphore");
    assert_eq!(inspect(&name)["value"], 2);
    run(&["rm", &name]).assert_done();
}

#[test]
fn a_killed_holder_keeps_no_permit() {
    let name = Name::new();
    run(&["create", &name, "--kind", "semaphore", "--persistent"]).assert_done();
    // It keeps its permit until its input ends, and its command ends with it.
    let mut holder =
        annulus(&["acquire", &name, "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("it has the permit", || inspect(&name)["value"] == 0);
    let text = run(&["inspect", &name]);
    assert!(text.text().contains("0 of 1 permits are free") && text.text().contains("has 1"));
    let code = |args: &[&str]| annulus(args).output().unwrap().status.code();
    assert_eq!(code(&["acquire", &name, "--no-wait", "--", "true"]), Some(6));
    assert_eq!(code(&["acquire", &name, "--timeout", "50ms", "--", "true"]), Some(124));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let next = annulus(&["acquire", &name, "--", "echo", "mine"]).output().unwrap();
    assert_eq!(next.stdout, b"mine\n");
    assert!(String::from_utf8_lossy(&next.stderr).contains("killed with a permit"));
    run(&["rm", &name]).assert_done();
}

#[test]
fn flags_are_raised_and_waited_for() {
    let name = Name::new();
    run(&["create", &name, "--kind", "event", "--persistent"]).assert_done();
    let mut waiter =
        annulus(&["wait", &name, "5", "6", "--all"]).stdout(Stdio::piped()).spawn().unwrap();
    run(&["raise", &name, "5"]).assert_done();
    assert_eq!(run(&["wait", &name, "5", "6"]).text(), "5\n");
    assert!(waiter.try_wait().unwrap().is_none());
    run(&["raise", &name, "6", "0"]).assert_done();
    let done = waiter.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stdout), (Some(0), b"5\n6\n".to_vec()));
    assert!(run(&["inspect", &name]).text().contains("raised: 0, 5, 6"));
    assert_eq!(run(&["wait", &name, "0", "5", "--take"]).text(), "0\n5\n");
    let args = ["wait", &name, "0", "--timeout", "20ms"];
    assert_eq!(annulus(&args).output().unwrap().status.code(), Some(124));
    run(&["wait", &name, "0", "6", "--all", "--no-wait"]).assert_fails(6, "not all");
    run(&["wait", &name, "0", "--no-wait"]).assert_fails(6, "no such flag");
    assert_eq!(run(&["wait", &name, "0", "6", "--no-wait"]).text(), "6\n");
    assert_eq!(annulus(&["raise", &name, "64"]).output().unwrap().status.code(), Some(2));
    assert_eq!(inspect(&name)["value"], 1 << 6);
    run(&["rm", &name]).assert_done();
}

#[test]
fn who_waits_or_acquires_leaves_what_it_used() {
    let (lock, flags) =
        (Name::created(&["--kind", "semaphore"]), Name::created(&["--kind", "event"]));
    for _ in 0..2 {
        assert_eq!(
            annulus(&["acquire", &lock, "--", "true"]).output().unwrap().status.code(),
            Some(0)
        );
        run(&["wait", &flags, "1", "--timeout", "1ms"]).assert_fails(124, "not raised");
    }
    assert!(lock.exists() && flags.exists());
}

#[test]
fn what_is_not_there_is_called_what_it_would_be() {
    let absent = Name::new();
    let cases: [(&[&str], &str); 3] = [
        (&["acquire", &absent, "--", "true"], "no such semaphore; make it"),
        (&["raise", &absent, "3"], "no such event; make it"),
        (&["wait", &absent, "3"], "no such event; make it"),
    ];
    for (verb, why) in cases {
        run(verb).assert_fails(3, why);
    }
}

#[test]
fn a_foreigners_is_taken_if_its_owner_is_named() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: giving a file away takes root");
        return;
    }
    let (lock, flags) =
        (Name::created(&["--kind", "semaphore"]), Name::created(&["--kind", "event"]));
    for name in [&lock, &flags] {
        std::os::unix::fs::chown(name.file(), Some(12345), None).unwrap();
    }
    let cases: [(&[&str], &[&str]); 3] = [
        (&["acquire", &lock], &["--", "true"]),
        (&["raise", &flags, "3"], &[]),
        (&["wait", &flags, "3"], &[]),
    ];
    for (verb, rest) in cases {
        run(&[verb, rest].concat()).assert_fails(5, "give --owner 12345");
        let done = run(&[verb, &["--owner", "12345"], rest].concat());
        assert_eq!(done.code, 0, "{done:?}");
    }
}
