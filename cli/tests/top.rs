//! `top`: what goes through, once or again and again; on a terminal until q.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use support::{Name, Running, annulus, eventually, inspect, run, run_with_input, start};

fn row(rows: &Value, name: &str) -> Option<Value> {
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).cloned()
}

#[test]
fn one_look_says_what_went_through() {
    let (busy, idle) = (Name::created(&["--kind", "broadcast"]), Name::created(&["--persistent"]));
    run_with_input(&["send", &idle], b"1\n2\n").assert_done();
    let _follower = start(annulus(&["tail", &busy, "-f"]));
    let (_sender, mut stdin) = Running::with_stdin(&["send", &busy]);
    eventually("both are there", || inspect(&busy)["senders"] == 1);
    let writer = std::thread::spawn(move || {
        // Until the sender is gone.
        while stdin.write_all(b"again\n").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    eventually("something went through", || {
        let done = run(&["top", "--once", "--json", "-d", "100ms"]);
        done.assert_done();
        let rows = done.json();
        let (busy, idle) = (row(&rows, &busy).unwrap(), row(&rows, &idle).unwrap());
        assert_eq!((idle["sent_per_s"].as_f64(), &idle["sent"]), (Some(0.0), &2.into()));
        busy["sent_per_s"].as_f64().unwrap() > 0.0
    });
    assert_eq!(run(&["top", "--once", "-d", "0"]).code, 2);
    let text = run(&["top", "--once", "--interval", "10ms"]);
    text.assert_done();
    assert!(text.text().starts_with("NAME") && !text.text().contains('\u{1b}'), "{text:?}");
    assert!(text.text().contains(&*busy) && text.text().contains("byte-broadcast"), "{text:?}");
    _sender.signal(Signal::SIGKILL);
    writer.join().unwrap();
}

#[test]
fn it_goes_on_until_ctrl_c_or_until_nobody_reads() {
    let _name = Name::created(&[]);
    let top = start(annulus(&["top", "-d", "10ms"]));
    std::thread::sleep(std::time::Duration::from_millis(100));
    top.signal(Signal::SIGINT);
    let done = top.wait();
    assert_eq!(done.code, 130);
    let mut command = annulus(&["top", "-d", "10ms"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let top = start(command);
    drop(reader);
    top.wait().assert_done();
}

/// Both ends of a terminal.
fn terminal() -> (std::fs::File, OwnedFd) {
    let (mut ours, mut its) = (-1, -1);
    let (ours_to, its_to) = (&raw mut ours, &raw mut its);
    let none = std::ptr::null_mut();
    // SAFETY: there is room for both descriptors, and nothing else is asked for.
    let done = unsafe { libc::openpty(ours_to, its_to, none, none.cast(), none.cast()) };
    assert_eq!(done, 0);
    // SAFETY: they were made just now, for us.
    unsafe { (std::fs::File::from_raw_fd(ours), OwnedFd::from_raw_fd(its)) }
}

/// Whether a terminal waits for the end of a line, and shows what is typed.
fn is_cooked(terminal: &impl AsRawFd) -> bool {
    // SAFETY: zero is a value of each of its fields, and there is room for the answer.
    let state = unsafe {
        let mut state: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut state), 0);
        state
    };
    let both = libc::ICANON | libc::ECHO;
    assert!([0, both].contains(&(state.c_lflag & both)));
    state.c_lflag & both == both
}

#[test]
fn on_a_terminal_it_ends_with_q_and_gives_the_terminal_back() {
    for (keys, code) in [("q", 0), ("xyzq", 0), ("\x03", 130)] {
        let (mut ours, its) = terminal();
        let mut command = annulus(&["top", "-d", "1h"]);
        command.stdin(its.try_clone().unwrap()).stdout(its.try_clone().unwrap());
        // SAFETY: system calls: the terminal becomes that of the child.
        unsafe {
            command.pre_exec(|| {
                match libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    true => Err(std::io::Error::last_os_error()),
                    false => Ok(()),
                }
            })
        };
        let top = start(command);
        eventually("keys are handed on", || !is_cooked(&its));
        ours.write_all(keys.as_bytes()).unwrap();
        assert_eq!(top.wait().code, code);
        assert!(is_cooked(&its));
    }
}
