//! `top`: what goes through, once or again and again.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Write;
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
