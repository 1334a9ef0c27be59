//! Where a side has many: who of them counts.

mod support;

use nix::sys::signal::Signal;
use std::io::{Read, Write};
use support::{Name, Running, annulus, eventually, inspect, run, run_with_input, start};

const MANY: [&str; 6] = ["--kind", "slots", "--message-size", "1", "--topology", "mpmc"];

/// One of many senders that was killed is told of, whoever has cleared up after it; unless another one came after it, who
/// is taken for its successor. So it is with lanes, too.
#[test]
fn one_of_many_senders_that_was_killed_counts_until_another_one_comes() {
    for options in [&MANY[..], &["--topology", "mpsc"]] {
        for has_successor in [false, true] {
            let name = Name::created(options);
            let receiver = start(annulus(&["recv", &name, "--raw"]));
            eventually("the receiver is there", || inspect(&name)["receivers"] == 1);
            let mut senders = ["a", "b"].map(|letter| {
                let (sender, mut stdin) = Running::with_stdin(&["send", &name, "--raw"]);
                stdin.write_all(letter.as_bytes()).unwrap();
                (sender, stdin)
            });
            eventually("both have sent", || inspect(&name)["received"] == 2);
            senders[0].0.signal(Signal::SIGKILL);
            eventually("it is dead", || !senders[0].0.is_running());
            if has_successor {
                run_with_input(&["send", &name, "--raw"], b"c").assert_done();
            } else if options == MANY {
                // It finds nothing, but what the dead one has left.
                run(&["recv", &name, "--no-wait"]).assert_fails(6, "empty");
            }
            let [_dead, (living, stdin)] = senders;
            drop(stdin);
            living.wait().assert_done();
            let done = receiver.wait();
            match has_successor {
                true => done.assert_done(),
                false => done.assert_fails(7, "the sender died"),
            }
            assert_eq!(done.stdout.len(), if has_successor { 3 } else { 2 }, "{done:?}");
        }
    }
}

/// A sender that has sent everything waits as long as any receiver is there to take it.
#[test]
fn a_sender_lingers_for_any_of_many_receivers() {
    let name = Name::created(&MANY);
    let first = start(annulus(&["recv", &name, "-n", "1"]));
    eventually("the first is there", || inspect(&name)["receivers"] == 1);
    let mut command = annulus(&["recv", &name]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let second = start(command);
    eventually("both are there", || inspect(&name)["receivers"] == 2);
    second.signal(Signal::SIGSTOP);
    let mut sender = Running::with_input(&["send", &name], b"abc".to_vec());
    assert_eq!(first.wait().stdout.len(), 1);
    eventually("it lingers", || inspect(&name)["senders"] == 0);
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert!(sender.is_running());
    second.signal(Signal::SIGCONT);
    sender.wait().assert_done();
    second.wait().assert_done();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 2);
}
