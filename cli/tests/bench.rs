//! `annulus bench` from the outside: it runs to its end, says what it promised, and leaves nothing behind.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus"));
    command.arg("bench").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    bench().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Figures of every row that has any: positive, and in order.
fn check_rows(report: &Value) {
    assert!(report["floor_rtt_ns"].as_u64().unwrap() > 0);
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows.iter().filter(|row| row.get("skipped").is_none()) {
        let rtt = ["p50", "p99", "p999", "max"].map(|key| row["rtt_ns"][key].as_u64().unwrap());
        assert!(rtt.is_sorted() && rtt[0] > 0, "{row}");
        assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn the_quick_run_measures_every_transport() {
    let output = run(&["--quick", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress unless a terminal: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check_rows(&report);
    for transport in
        ["ring", "bytes", "stream", "pipe", "fifo", "unix-stream", "unix-seqpacket", "eventfd"]
    {
        let mut rows = report["rows"].as_array().unwrap().iter();
        assert!(
            rows.any(|row| row["transport"] == transport && row["rtt_ns"].is_object()),
            "{transport}"
        );
    }
}

/// Each row of the table of the kernel's mechanisms: an original, what replaces it, and the figures that both have.
const ROWS: [(&str, &str, &str); 24] = [
    ("pipe", "Stream", "both"),
    ("FIFO", "Stream", "both"),
    ("System V queue", "Mailbox", "both"),
    ("POSIX queue", "Mailbox", "both"),
    ("shared memory, semop", "Ring", "both"),
    ("shared memory, sem_t", "Ring", "both"),
    ("Unix stream socket", "ByteStream", "both"),
    ("Unix seqpacket socket", "ByteDuplex", "both"),
    ("Unix datagram socket", "ByteRing, lanes", "rate"),
    ("pipe", "Broadcast", "both"),
    ("4 pipes", "Broadcast", "rate"),
    ("16 pipes", "Broadcast", "rate"),
    ("sigqueue, signalfd", "Event", "both"),
    ("eventfd", "Event", "both"),
    ("sigqueue, signalfd", "Broadcast", "both"),
    ("semop", "Semaphore", "both"),
    ("sem_t", "Semaphore", "both"),
    ("semop", "Semaphore", "rate"),
    ("semop, SEM_UNDO", "Semaphore", "rate"),
    ("sem_t", "Semaphore", "rate"),
    ("mutex", "Semaphore", "rate"),
    ("robust mutex", "Semaphore", "rate"),
    ("mutex, condition", "Latest", "round trip"),
    ("mutex", "Latest", "rate"),
];

#[test]
fn all_mechanisms_are_measured_beside_what_replaces_them() {
    let dir = tempfile::tempdir().unwrap();
    let svg = dir.path().join("chart.svg");
    let output = bench().args(["--all", "--quick", "--json", "--svg"]).arg(&svg).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress unless a terminal: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["floor_rtt_ns"].as_u64().unwrap() > 0);
    assert_eq!(report["rows"], serde_json::json!([]));
    let rows = report["replacements"].as_array().unwrap();
    let (mut places, mut waits) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        places.insert(row["processors"].as_u64().unwrap());
        waits.insert(row["wait"].as_str().unwrap());
        let figures = [("rtt_ns", "round_trip"), ("msgs_per_s", "rate")];
        let has: Vec<_> = figures.into_iter().filter(|(key, _)| !row[key].is_null()).collect();
        assert!(!has.is_empty(), "{row}");
        // A machine may be without queues of the kernel.
        let skipped = row.get("skipped").is_some();
        for (key, ratio) in has {
            assert_eq!(row[format!("original_{key}")].is_null(), skipped, "{row}");
            assert_eq!(
                row["ratio"][ratio].as_f64().is_some_and(|ratio| ratio > 0.0),
                !skipped,
                "{row}"
            );
        }
        if let Some(rtt) = row["rtt_ns"].as_object() {
            let rtt = ["p50", "p99", "p999", "max"].map(|key| rtt[key].as_u64().unwrap());
            assert!(rtt.is_sorted() && rtt[0] > 0, "{row}");
        }
    }
    assert!(places.contains(&1) && places.is_subset(&BTreeSet::from([1, 2])), "{places:?}");
    assert_eq!(waits, BTreeSet::from(["adaptive", "block"]));
    for (original, replacement, figures) in ROWS {
        let found = rows.iter().any(|row| {
            let has = |key: &str| !row[key].is_null();
            row["original"] == original
                && row["replacement"] == replacement
                && (has("rtt_ns") || figures == "rate")
                && (has("msgs_per_s") || figures == "round trip")
        });
        // Some are compared only where there are two processors.
        assert!(found || places.len() == 1, "{original} and {replacement}: {figures}");
    }
    assert!(std::fs::read_to_string(&svg).unwrap().trim_end().ends_with("</svg>"));
}

#[test]
fn the_comparison_is_printed_for_people_and_for_documents() {
    let output = run(&["--all", "--quick", "--one-cpu", "--markdown"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let markdown = text(&output.stdout);
    let titles = markdown.lines().filter(|line| line.starts_with("| original |")).count();
    assert_eq!(titles, 1, "only one processor: {markdown}");
    assert!(markdown.contains("\n| pipe | `Stream` | bytes, 64 B |"), "{markdown}");
    for (arguments, reason) in [
        ("--all --size 8", "--size"),
        ("--all --vs pipe", "--vs"),
        ("--all --senders 2", "--senders"),
        ("--all --bars", "--bars"),
        ("--all --markdown --json", "--json"),
        ("--markdown", "--all"),
    ] {
        let output = run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output.stderr).contains(reason), "{arguments}: {}", text(&output.stderr));
    }
}

#[test]
fn one_processor_and_free_processes_work_too() {
    for place in ["--one-cpu", "--no-pin"] {
        let output =
            run(&["--quick", "--json", "--size", "64", "--vs", "pipe", "--wait", "block", place]);
        assert!(output.status.success(), "{place}: {}", text(&output.stderr));
        check_rows(&serde_json::from_slice(&output.stdout).unwrap());
    }
}

#[test]
fn files_are_written_and_the_table_has_no_colour_in_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let (hgrm, svg) = (dir.path().join("all.hgrm"), dir.path().join("chart.svg"));
    let output = bench()
        .args(["--quick", "--size", "8", "--vs", "pipe", "--transport", "ring"])
        .arg("--hgrm")
        .arg(&hgrm)
        .arg("--svg")
        .arg(&svg)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("floor") && table.contains("pipe") && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(std::fs::read_to_string(&hgrm).unwrap().contains("# pipe block 8"));
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    let output = bench()
        .args(["--quick", "--size", "8", "--vs", "pipe", "--transport", "ring"])
        .arg("--hgrm")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(dir.path().join("pipe-block-8.hgrm").exists());
}

#[test]
fn wrong_use_and_a_wrong_path_have_their_exit_codes() {
    assert_eq!(run(&["--size", "3"]).status.code(), Some(2));
    assert_eq!(run(&["--vs", "semaphore"]).status.code(), Some(2));
    let output = run(&["--quick", "--svg", "/nonexistent/chart.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/chart.svg"));
}

#[test]
fn many_processes_share_a_ring_and_the_kernels_queues() {
    let output = run(&["--senders", "2", "--receivers", "2", "--quick", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress unless a terminal: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["topology"], "mpmc");
    let rows = report["rows"].as_array().unwrap();
    let named = |name: &str| rows.iter().filter(|row| row["transport"] == name).count();
    assert_eq!(["ring", "pipe", "sysv-queue", "posix-queue"].map(named), [12, 2, 2, 2]);
    assert_eq!(rows.len(), 18);
    for row in rows {
        assert_eq!((&row["senders"], &row["receivers"]), (&2.into(), &2.into()));
        // A machine may be without queues of the kernel.
        if row.get("skipped").is_none() {
            assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
            assert!((0.0..=1.0).contains(&row["least_share"].as_f64().unwrap()), "{row}");
            assert!(row["slowest_32_ns"].as_f64().unwrap() > 0.0, "{row}");
            assert_eq!(row["per_sender"].as_array().unwrap().len(), 2, "{row}");
        } else {
            assert_ne!(row["transport"], "ring", "{row}");
        }
    }
}

#[test]
fn a_wider_ring_and_more_processes_than_processors_work_too() {
    let one_side = ["--senders", "9", "--topology", "mpmc", "--size", "64", "--vs", "none"];
    let other_side =
        ["--receivers", "9", "--one-cpu", "--size", "16", "--vs", "fifo,unix-seqpacket"];
    let pair = ["--senders", "1", "--no-pin", "--size", "8192", "--vs", "pipe"];
    for arguments in [&one_side[..], &other_side, &pair] {
        let output = run(&[&["--quick", "--wait", "block"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let table = text(&output.stdout);
        assert!(table.contains("least share") && !table.contains('\u{1b}'), "{table}");
        let skipped = table.matches("n/a").count();
        assert_eq!(skipped, if arguments == pair { 3 } else { 0 }, "{table}");
    }
}

#[test]
fn a_crowd_that_cannot_be_is_refused_with_a_reason() {
    for (arguments, reason) in [
        ("--senders 0", "0 is not in"),
        ("--receivers 2000", "2000 is not in"),
        ("--senders 1000 --receivers 1000", "at most 1024"),
        ("--topology mpmc", "--senders"),
        ("--senders 2 --topology spsc", "one sender"),
        ("--receivers 2 --topology mpsc", "one receiver"),
        ("--senders 2 --transport bytes", "only `ring`"),
        ("--senders 2 --vs eventfd", "whole messages"),
        ("--senders 2 --bars", "--bars"),
        ("--receivers 2 --svg chart.svg", "--svg"),
        ("--senders 2 --hgrm file", "--hgrm"),
    ] {
        let output = run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text(&output.stderr).contains(reason), "{arguments}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

#[test]
fn a_reader_that_leaves_is_a_quiet_end() {
    let mut child = bench()
        .args(["--quick", "--size", "8", "--vs", "pipe", "--transport", "ring", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(complaint, "");
}

/// A process that the child has forked, as soon as there is one.
fn worker_of(child: &Child) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", child.id());
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(Instant::now() < end, "it has no workers");
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return Pid::from_raw(pid.parse().unwrap());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_worker_that_dies_is_noticed_and_ctrl_c_ends_everything() {
    let start = || {
        let mut command = bench();
        command.args(["--vs", "sysv-queue,fifo,posix-queue", "--size", "8"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let child = start();
    kill(worker_of(&child), Signal::SIGKILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("was killed by SIGKILL"), "{}", text(&output.stderr));

    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = start();
        let worker = worker_of(&child);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(kill(worker, None), Err(nix::Error::ESRCH), "the worker is gone");
    }
}
