//! What goes into `send` comes out of `recv`.

mod support;

use std::fs::File;
use std::io::{Seek, Write};
use std::process::Stdio;
use support::{Name, Running, annulus, noise, run, run_with_input, start};

/// Sends `input` through a new ring with these options on each side; the receiver's output.
#[track_caller]
fn through(create: &[&str], send: &[&str], recv: &[&str], input: &[u8]) -> Vec<u8> {
    let name = Name::created(create);
    let receiver = start(annulus(&[&["recv", &name], recv].concat()));
    run_with_input(&[&["send", &name], send].concat(), input).assert_done();
    let received = receiver.wait();
    received.assert_done();
    assert!(!name.exists(), "the last user removes the name");
    received.stdout
}

#[track_caller]
fn assert_same(create: &[&str], both: &[&str], input: &[u8]) {
    let output = through(create, both, both, input);
    assert!(
        output == input,
        "{both:?}: {} bytes came out of {}: {:?} of {:?}",
        output.len(),
        input.len(),
        String::from_utf8_lossy(&output[..output.len().min(80)]),
        String::from_utf8_lossy(&input[..input.len().min(80)])
    );
}

const NASTY: [&[u8]; 14] = [
    b"",
    b"\n",
    b"\n\n\n",
    b"no end",
    b"one\n",
    b"one\ntwo",
    b"\nlast",
    b"windows\r\nlines\r\n",
    b"\0",
    b"zero\0bytes\0in\0lines\n\0\n\0",
    b"\xff\xfe\x80\n\xc3\x28\n",
    b"a\0\0b\0",
    b" \t \n",
    b"\r\r\n\n\r",
];

#[test]
fn nasty_streams_are_the_same_in_every_framing() {
    for input in NASTY {
        for framing in ["--lines", "--null", "--raw"] {
            assert_same(&[], &[framing], input);
        }
        assert_same(&[], &[], input);
    }
}

#[test]
fn many_lines() {
    let mut input = Vec::new();
    for number in 1..=300_000 {
        writeln!(input, "{number}").unwrap();
    }
    assert_same(&["--capacity", "64K"], &["--lines"], &input);
    assert_same(&[], &["--lines", "--wait", "block"], &input);
    assert_same(&[], &["--lines", "--wait", "spin"], &input[..100_000]);
}

/// Streams with ends at any distance, through rings of any size.
#[test]
fn noise_is_the_same_in_every_framing_and_size() {
    for seed in 0..12 {
        let mut input = noise(seed, 30_000 * (1 + seed as usize % 3));
        // From one end in 256 bytes to one in two.
        let often = seed as usize % 4;
        for i in (0..input.len()).filter(|i| often > 0 && i % (often * 2) == 0) {
            input[i] = if seed % 2 == 0 { b'\n' } else { 0 };
        }
        let capacity = (4096 << (seed % 5)).to_string();
        for framing in ["--lines", "--null", "--raw"] {
            assert_same(&["--capacity", &capacity], &[framing], &input);
        }
        let chunked = through(
            &["--capacity", &capacity],
            &["--raw", "--chunk", &(1 + seed * 97).to_string()],
            &["--raw"],
            &input,
        );
        assert!(chunked == input);
    }
}

fn prefixed(messages: &[&[u8]]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&(message.len() as u32).to_le_bytes()[..], message].concat())
        .collect()
}

#[test]
fn lengths_keep_any_message() {
    let noise = noise(7, 50_000);
    let messages = [&b""[..], b"a", b"\n", &noise, b"", &noise[..4097], b"\0\0\0\0"];
    assert_same(&[], &["--len32"], &prefixed(&messages));
    assert_same(&[], &["--len32"], b"");
}

#[test]
fn framings_translate_into_each_other() {
    let lengths = through(&[], &["--lines", "--strip"], &["--len32"], b"a\n\nbc");
    assert_eq!(lengths, prefixed(&[b"a", b"", b"bc"]));
    let lengths = through(&[], &["--lines"], &["--len32"], b"a\n\nbc");
    assert_eq!(lengths, prefixed(&[b"a\n", b"\n", b"bc"]));
    // Messages without an end of line become lines.
    assert_eq!(
        through(&[], &["--len32"], &["--lines"], &prefixed(&[b"a", b"", b"b"])),
        b"a\n\nb\n"
    );
    assert_eq!(through(&[], &["--null", "--strip"], &["--lines"], b"a\0b\0"), b"a\nb\n");
}

#[test]
fn slots_take_messages_of_their_size() {
    let slots = ["--kind", "slots", "--message-size", "12", "--capacity", "100"];
    let input = noise(3, 12 * 5000);
    assert_same(&slots, &[], &input);
    let lines: Vec<u8> = (0..20_000).flat_map(|i| format!("{i:012}\n").into_bytes()).collect();
    assert_same(&slots, &["--lines"], &lines);
    assert_same(&slots, &["--len32"], &prefixed(&[b"twelve bytes", b"of any sort\n"]));
    let one = ["--kind", "slots", "--message-size", "1", "--capacity", "1"];
    assert_same(&one, &[], b"one byte at a time");
    let large = ["--kind", "slots", "--message-size", "300000", "--capacity", "3"];
    assert_same(&large, &[], &noise(4, 3_000_000));
}

/// What was wrong is said, and what came before it has arrived.
#[test]
fn wrong_input_is_an_error_that_says_where() {
    let slots = &["--kind", "slots", "--message-size", "4"][..];
    let small = &["--capacity", "1000"][..];
    let long = [b"short\n", &[b'x'; 2000][..]].concat();
    type Case<'a> = (&'a [&'a str], &'a str, &'a [u8], &'a str, &'a [u8]);
    let cases: [Case<'_>; 8] = [
        (slots, "--raw", b"fourfour12", "ends with 2 bytes, less than a message of 4", b"fourfour"),
        (slots, "--lines", b"four\nfive!\n", "line 2 has more than the 4 bytes", b"four"),
        (slots, "--lines", b"four\nsix\n", "line 2 has 3 bytes", b"four"),
        (slots, "--len32", b"\x03\0\0\0abc", "message 1 has 3 bytes by its length", b""),
        (
            small,
            "--lines",
            &long,
            "line 2 is longer than the ring's longest message of 1000",
            b"short\n",
        ),
        (small, "--null", &long, "item 1 is longer", b""),
        (small, "--len32", b"\x01\0\0\0a\xff\xff\xff\xff", "message 2 has 4294967295", b"a"),
        (
            small,
            "--len32",
            b"\x01\0\0\0a\x02\0\0\0b",
            "ends 1 byte into message 2, which has 2",
            b"a",
        ),
    ];
    for (create, framing, input, why, arrived) in cases {
        let name = Name::created(create);
        let receiver = start(annulus(&["recv", &name, "--raw"]));
        run_with_input(&["send", &name, framing], input).assert_fails(1, why);
        assert_eq!(receiver.wait().stdout, arrived, "{framing}: {why}");
    }
    let name = Name::created(&["--persistent"]);
    run_with_input(&["send", &name, "--len32"], b"\x01\0")
        .assert_fails(1, "2 bytes into the length");
    run(&["send", &name, "--chunk", "10"]).assert_fails(2, "--raw");
    run(&["send", &name, "--raw", "--chunk", "2M"]).assert_fails(2, "longest message");
}

#[test]
fn the_longest_line_passes_and_one_more_byte_does_not() {
    let create = ["--capacity", "100000"];
    let mut input = vec![b'x'; 99_999];
    input.push(b'\n');
    assert_same(&create, &["--lines"], &[&input[..], &input, b"y\n"].concat());
    assert_same(&create, &["--lines"], &[&input[..99_999], b"x"].concat());
    let name = Name::created(&create);
    let receiver = start(annulus(&["recv", &name]));
    input.insert(0, b'x');
    run_with_input(&["send", &name], &input).assert_fails(1, "line 1 is longer");
    assert_eq!(receiver.wait().stdout, b"");
}

/// A large file, from a file to a file.
#[test]
fn a_file_arrives_in_bounded_memory() {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 48;
    let mut input = tempfile::tempfile().unwrap();
    let mut block = noise(11, BLOCK);
    let mut expected = Vec::new();
    for number in 0..BLOCKS {
        block[..8].copy_from_slice(&number.to_le_bytes());
        input.write_all(&block).unwrap();
        expected.extend_from_slice(&block);
    }
    input.rewind().unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let name = Name::created(&[]);
    let mut command = annulus(&["recv", &name, "--raw"]);
    command.stdout(File::create(output.path()).unwrap());
    let receiver = start(command);
    let mut command = annulus(&["send", &name, "--raw"]);
    command.stdin(input).stdout(Stdio::null());
    start(command).wait().assert_done();
    receiver.wait().assert_done();
    assert!(std::fs::read(output.path()).unwrap() == expected);
}

#[test]
fn either_side_may_come_first_and_make_the_ring() {
    let name = Name::new();
    let sender = Running::with_input(&["send", &name, "--create"], b"1\n2\n".to_vec());
    support::eventually("the ring is there", || name.exists());
    let received = run(&["recv", &name, "--create", "--capacity", "64K"]);
    assert_eq!((received.code, received.text()), (0, "1\n2\n"));
    sender.wait().assert_done();
    assert!(!name.exists());
}
