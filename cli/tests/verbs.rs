//! The verbs that move no messages, and the exit codes.

mod support;

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use support::{Name, Running, annulus, eventually, inspect, run, run_with_input, start};

#[test]
fn a_created_ring_outlives_the_command_and_is_listed() {
    let name = Name::new();
    let made = run(&["create", &name, "--capacity", "64K", "--label", "text/1", "--mode", "0640"]);
    made.assert_done();
    assert!(made.stdout.is_empty());
    let all = run(&["ls", "--json"]).json();
    let ring = all.as_array().unwrap().iter().find(|ring| ring["name"] == *name).unwrap().clone();
    for (field, value) in [
        ("kind", Value::from("bytes")),
        ("topology", "spsc".into()),
        ("capacity", 65536.into()),
        ("used", 0.into()),
        ("senders", 0.into()),
        ("receivers", 0.into()),
        ("state", "stale".into()),
        ("label", "text/1".into()),
        ("mode", "0640".into()),
        ("layout_version", 1.into()),
        ("persistent", false.into()),
    ] {
        assert_eq!(ring[field], value, "{field}");
    }
    assert_eq!(inspect(&name), ring);
    let table = run(&["ls", "-l"]);
    table.assert_done();
    assert!(table.text().lines().next().unwrap().starts_with("NAME"));
    let line = table.text().lines().find(|line| line.starts_with(&*name)).unwrap();
    assert!(line.contains("64 KiB") && line.ends_with("text/1"), "{line}");
    let text = run(&["inspect", &name]);
    assert!(text.text().contains("nobody yet") && !text.text().contains('\u{1b}'));
}

#[test]
fn create_says_what_it_made_only_if_asked() {
    let name = Name::new();
    let args = ["create", &name, "-v", "--kind", "slots", "--message-size", "24"];
    assert_eq!(run(&args).stderr, format!("annulus: made {} for 1024 messages of 24 B\n", &*name));
    let ring = inspect(&name);
    assert_eq!((&ring["kind"], &ring["message_size"]), (&"slots".into(), &24.into()));
    // As many as it holds, not as were asked for.
    let name = Name::new();
    let shape =
        ["--kind", "slots", "--message-size", "8", "--capacity", "100", "--topology", "mpmc"];
    let made = run(&[&["create", &name, "-v"], &shape[..]].concat());
    assert_eq!(made.stderr, format!("annulus: made {} for 128 messages of 8 B\n", &*name));
}

#[test]
fn many_send_lines_at_once_each_in_a_lane() {
    let name = Name::new();
    run(&["create", &name, "--topology", "mpsc", "--participants", "2", "--ordered"]).assert_done();
    let ring = inspect(&name);
    assert_eq!((&ring["topology"], &ring["ordered"]), (&"mpsc".into(), &true.into()));
    let text = run(&["inspect", &name]);
    assert!(text.text().contains("in order") && text.text().contains("0 of 2"), "{}", text.text());
    let receiver = start(annulus(&["recv", &name, "--lines"]));
    let both = ["a", "b"].map(|letter| (letter, Running::with_stdin(&["send", &name, "--lines"])));
    // None goes before all have come: the receiver would end then.
    eventually("two senders", || inspect(&name)["senders"] == 2);
    let sent = both.map(|(letter, (sender, mut stdin))| {
        std::thread::spawn(move || {
            let lines: String = (0..20_000).map(|i| format!("{letter}{i}\n")).collect();
            stdin.write_all(lines.as_bytes()).unwrap();
            drop(stdin);
            sender.wait().assert_done();
            lines
        })
    });
    let sent = sent.map(|sender| sender.join().unwrap());
    let received = receiver.wait();
    received.assert_done();
    for (letter, lines) in ["a", "b"].iter().zip(sent) {
        let text = received.text();
        let own: String =
            text.split_inclusive('\n').filter(|line| line.starts_with(letter)).collect();
        assert_eq!(own, lines);
    }
}

#[test]
fn create_refuses_what_cannot_be() {
    let name = Name::new();
    let create = |options: &[&str]| run(&[&["create", &name], options].concat());
    create(&["--capacity", "0"]).assert_fails(2, "capacity of at least 1");
    create(&["--capacity", "9999999T"]).assert_fails(2, "cannot be addressed");
    create(&["--capacity", "1024G"]).assert_fails(1, "not enough room");
    create(&["--kind", "slots"]).assert_fails(2, "--message-size");
    create(&["--ordered"]).assert_fails(2, "--topology mpsc");
    create(&["--topology", "mpmc"]).assert_fails(2, "one receiver");
    create(&["--participants", "3"]).assert_fails(2, "--topology");
    create(&["--kind", "slots", "--message-size", "0"]).assert_fails(2, "at least one byte");
    create(&["--message-size", "8"]).assert_fails(2, "--kind slots");
    create(&["--label", &"x".repeat(65)]).assert_fails(2, "64 bytes");
    create(&["--mode", "0444"]).assert_fails(2, "0600");
    create(&["--huge-pages"]).assert_fails(1, "huge pages");
    for wrong in
        [["--capacity", "many"], ["--mode", "rw"], ["--kind", "pipes"], ["--topology", "x"]]
    {
        assert_eq!(create(&wrong).code, 2, "{wrong:?}");
    }
    assert!(!name.exists());
    for wrong in ["", ".", "..", "a\nb"] {
        run(&["create", wrong]).assert_fails(2, "the name");
    }
    run(&["create", &"x".repeat(248)]).assert_fails(2, "longer than 247");
    run(&["create", "/no/such/directory/q"]).assert_fails(3, "/no/such/directory");
    run(&["recv", "/no/such/directory/q", "--create"]).assert_fails(3, "no directory /no");
    run(&["create", "/proc/q"]).assert_fails(1, "cannot hold a ring");
    create(&[]).assert_done();
    create(&[]).assert_fails(4, "exists");
}

#[test]
fn what_is_not_there_is_not_found() {
    let name = Name::new();
    for verb in ["inspect", "rm", "send", "recv"] {
        run(&[verb, &name]).assert_fails(3, "nothing of that name");
    }
}

#[test]
fn usage_errors_are_2_and_help_is_0() {
    for wrong in [&[][..], &["frobnicate"], &["rm"], &["send"], &["send", "q", "--lines", "--raw"]]
    {
        assert_eq!(run(wrong).code, 2, "{wrong:?}");
    }
    for verb in [
        "create",
        "ls",
        "inspect",
        "rm",
        "send",
        "recv",
        "listen",
        "connect",
        "bench",
        "doctor",
        "completions",
        "man",
    ] {
        let help = run(&[verb, "--help"]);
        help.assert_done();
        assert!(help.text().contains("Usage: annulus"), "{verb}");
    }
    run(&["--version"]).assert_done();
}

#[test]
fn rings_at_paths_work_alike() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("ring").to_str().unwrap().to_owned();
    run(&["create", &path]).assert_done();
    run(&["create", &path]).assert_fails(4, "exists");
    assert_eq!(inspect(&path)["name"], path.as_str());
    let receiver = start(annulus(&["recv", &path]));
    run_with_input(&["send", &path], b"hello\n").assert_done();
    assert_eq!(receiver.wait().stdout, b"hello\n");
    assert!(!fs::exists(&path).unwrap(), "removed by its last user");
    // Not ours to remove.
    fs::write(&path, "precious").unwrap();
    run(&["rm", "--force", &path]).assert_fails(8, "not an annulus ring");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn broken_files_are_listed_and_refused_with_their_reason() {
    let garbage = Name::new();
    fs::write(garbage.file(), vec![7; 20_000]).unwrap();
    let short = Name::new();
    fs::write(short.file(), b"annulus").unwrap();
    let cut = Name::created(&[]);
    fs::OpenOptions::new().write(true).open(cut.file()).unwrap().set_len(65536).unwrap();
    let other = Name::created(&[]);
    patch(&other, 8, &99_u64.to_le_bytes());
    let link = Name::new();
    symlink(cut.file(), link.file()).unwrap();
    let wide = Name::created(&[]);
    fs::set_permissions(wide.file(), fs::Permissions::from_mode(0o666)).unwrap();
    let twice = Name::created(&[]);
    let second = Name::new();
    fs::hard_link(twice.file(), second.file()).unwrap();

    let all = run(&["ls", "--json"]);
    all.assert_done();
    let all = all.json();
    let listed = |name: &Name| {
        all.as_array().unwrap().iter().find(|ring| ring["name"] == **name).unwrap().clone()
    };
    for (name, code, why) in [
        (&garbage, 8, "not an annulus ring"),
        (&short, 8, "not an annulus ring"),
        (&cut, 8, "65536 bytes"),
        (&other, 8, "layout version 99"),
        (&link, 8, "symbolic link"),
    ] {
        assert_eq!(listed(name)["state"], "broken");
        assert!(listed(name)["error"].as_str().unwrap().contains(why), "{}", listed(name));
        for verb in ["inspect", "send", "recv"] {
            run(&[verb, name]).assert_fails(code, why);
        }
    }
    for (name, why) in [(&wide, "mode is 0666"), (&twice, "2 names")] {
        for verb in ["send", "recv"] {
            run(&[verb, name]).assert_fails(5, why);
        }
    }
    let table = run(&["ls"]);
    table.assert_done();
    assert!(table.text().contains("broken: the file is not an annulus ring"));
    // What the errors advise.
    run(&["rm", &cut, &other, &garbage]).assert_done();
}

/// With a file-system of its own: nobody else's is changed.
#[test]
fn where_nothing_can_be_written_that_is_said() {
    let test = r#"
        mount -t tmpfs -o ro tmpfs /dev/shm || exit 1
        "$0" create ring
        test $? = 5 || exit 2
        "$0" ls || exit 3
        "$0" doctor
        test $? = 1 || exit 4"#;
    let Some(done) = in_own_mounts(test) else { return };
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.text().contains("a tmpfs that is mounted read-only"), "{done:?}");
    assert!(done.stderr.contains("see what `annulus doctor` says"), "{done:?}");
}

/// Somebody else's ring is no broken one.
#[test]
fn what_may_not_be_read_is_said_to_be_unreadable() {
    use std::os::unix::process::CommandExt;
    let name = Name::created(&[]);
    let broken = Name::new();
    fs::write(broken.file(), b"annulus").unwrap();
    fs::set_permissions(broken.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = annulus(args);
        command.uid(65534);
        command
    };
    let can = nix::unistd::geteuid().is_root() && as_nobody(&["--version"]).output().is_ok();
    if !can {
        eprintln!("skipped: to be somebody else takes root, and a command that others may run");
        return;
    }
    let all = start(as_nobody(&["ls", "--json"])).wait().json();
    for (name, state, why) in
        [(&name, "unreadable", "permission denied"), (&broken, "broken", "not an annulus ring")]
    {
        let listed = all.as_array().unwrap().iter().find(|ring| ring["name"] == **name).unwrap();
        assert_eq!(listed["state"], state);
        assert!(listed["error"].as_str().unwrap().contains(why), "{listed}");
    }
    let table = start(as_nobody(&["ls"])).wait();
    let line = table.text().lines().find(|line| line.starts_with(&format!("{} ", &*name))).unwrap();
    assert!(line.contains("unreadable: permission denied"), "{line}");
    start(as_nobody(&["inspect", &name])).wait().assert_fails(5, "permission denied");
}

/// Overwrites bytes of a ring's file.
fn patch(name: &Name, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(name.file()).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn damaged_positions_are_8() {
    let name = Name::created(&["--persistent"]);
    // The sender's position: far beyond the ring.
    patch(&name, 8192, &u64::MAX.to_le_bytes());
    run(&["recv", &name, "--timeout", "1s"]).assert_fails(8, "damaged");
    run(&["send", &name]).assert_fails(8, "damaged");
}

#[test]
fn rm_removes_what_it_can_and_gives_the_worst_code() {
    let (one, two, live) = (Name::created(&[]), Name::created(&[]), Name::created(&[]));
    let absent = Name::new();
    let receiver = start(annulus(&["recv", &live]));
    eventually("the receiver is there", || inspect(&live)["receivers"] == 1);
    assert_eq!(inspect(&live)["state"], "live");
    let done = run(&["rm", "-v", &one, &absent, &live, &two]);
    assert_eq!(done.code, 6, "{done:?}");
    assert!(
        done.stderr.contains("nothing of that name") && done.stderr.contains("in use"),
        "{done:?}"
    );
    assert!(done.stderr.contains(&format!("removed {}", &*two)), "{done:?}");
    assert!(!one.exists() && !two.exists() && live.exists());
    run(&["rm", "--force", &live]).assert_done();
    assert!(!live.exists());
    drop(receiver);
}

/// In a file-system of its own, where `--stale` meets no other test's rings.
#[test]
fn rm_stale_spares_the_living_and_the_persistent() {
    let test = "
        set -e
        mount -t tmpfs -o size=64m tmpfs /dev/shm
        \"$0\" create stale
        \"$0\" create kept --persistent
        \"$0\" create named --persistent
        \"$0\" recv busy --create & receiver=$!
        while ! \"$0\" inspect busy >/dev/null 2>&1; do sleep 0.01; done
        echo garbage > /dev/shm/annulus.garbage
        \"$0\" rm --stale -v
        \"$0\" rm --stale named
        \"$0\" ls --json
        kill $receiver
        wait $receiver || test $? = 130
        ! test -e /dev/shm/annulus.busy
    ";
    let Some(done) = in_own_mounts(test) else { return };
    assert_eq!(
        (done.code, done.stderr.lines().next()),
        (0, Some("annulus: removed stale")),
        "{done:?}"
    );
    let names: Vec<_> =
        done.json().as_array().unwrap().iter().map(|ring| ring["name"].clone()).collect();
    assert_eq!(names, ["busy", "garbage", "kept"]);
}

#[test]
fn a_full_tmpfs_is_a_sentence() {
    let test = "
        mount -t tmpfs -o size=1m tmpfs /dev/shm
        \"$0\" create big --capacity 2M
        echo $?
        \"$0\" create fits --capacity 512K && \"$0\" create second --capacity 512K
        echo $?
        ls /dev/shm
    ";
    let Some(done) = in_own_mounts(test) else { return };
    assert_eq!(done.text(), "1\n1\nannulus.fits\n");
    assert_eq!(done.stderr.matches("not enough room").count(), 2, "{done:?}");
}

/// Runs a script with mounts of its own and the command as `$0`; `None` where that is not allowed.
fn in_own_mounts(script: &str) -> Option<support::Done> {
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_annulus")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting a tmpfs takes root");
        return None;
    }
    let can = std::process::Command::new("unshare").args(["--mount", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this environment does not allow mounts");
        return None;
    }
    Some(start(command).wait())
}

#[test]
fn a_role_that_is_taken_is_6_and_names_the_process() {
    let name = Name::created(&[]);
    let receiver = start(annulus(&["recv", &name]));
    eventually("the receiver is there", || inspect(&name)["receivers"] == 1);
    run(&["recv", &name]).assert_fails(6, &format!("process {} is the receiver", receiver.pid()));
    let (sender, _stdin) = Running::with_stdin(&["send", &name]);
    eventually("the sender is there", || inspect(&name)["senders"] == 1);
    run(&["send", &name]).assert_fails(6, &format!("process {} is the sender", sender.pid()));
    let members = inspect(&name)["participants"].clone();
    assert_eq!(members[0]["role"], "sender");
    assert_eq!(members[0]["pid"], sender.pid());
    assert_eq!(members[1]["state"], "alive");
}

#[test]
fn doctor_finds_this_machine_fit() {
    let done = run(&["doctor", "--json"]);
    let json = done.json();
    assert_eq!(done.code, if json["healthy"] == true { 0 } else { 1 });
    let names: Vec<_> =
        json["checks"].as_array().unwrap().iter().map(|check| check["name"].clone()).collect();
    for name in
        ["/dev/shm", "membarrier", "futex", "OFD locks", "O_TMPFILE", "processors", "seccomp"]
    {
        assert!(names.contains(&name.into()), "{name}");
    }
    let text = run(&["doctor"]);
    assert!(text.text().contains("OFD locks"));
}

#[test]
fn completions_and_pages_are_printed_or_written() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        script.assert_done();
        assert!(script.text().contains("inspect"), "{shell}");
    }
    run(&["completions", "tcsh"]).code.eq(&2).then_some(()).unwrap();
    let page = run(&["man", "send"]);
    page.assert_done();
    assert!(page.text().starts_with(".ie") || page.text().contains(".TH annulus-send"), "{page:?}");
    assert!(run(&["man"]).text().contains(".TH annulus "));
    run(&["man", "frobnicate"]).assert_fails(2, "no verb");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    run(&["man", "--dir", path]).assert_done();
    run(&["completions", "bash", "--dir", path]).assert_done();
    for file in ["annulus.1", "annulus-recv.1", "annulus.bash"] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
    assert!(!dir.path().join("annulus-help.1").exists());
    let version = concat!("annulus ", env!("CARGO_PKG_VERSION"));
    assert!(page.text().contains(version), "{page:?}");
    assert!(fs::read_to_string(dir.path().join("annulus-recv.1")).unwrap().contains(version));
    run(&["man", "--dir", "/no/such/directory"]).assert_fails(3, "/no/such/directory");
}

#[test]
fn colours_are_for_terminals() {
    let _name = Name::created(&[]);
    assert!(!run(&["ls"]).text().contains('\u{1b}'));
    let mut forced = annulus(&["ls"]);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(start(forced).wait().text().contains('\u{1b}'));
    let mut without = annulus(&["ls"]);
    without.env("CLICOLOR_FORCE", "0").env("NO_COLOR", "1");
    assert!(!start(without).wait().text().contains('\u{1b}'));
}

#[test]
fn a_foreigners_ring_is_taken_if_its_owner_is_named() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    let name = Name::created(&["--capacity", "1K", "--persistent"]);
    std::os::unix::fs::chown(name.file(), Some(12345), None).unwrap();
    run_with_input(&["send", &name], b"one\n").assert_fails(5, "give --owner 12345");
    run(&["recv", &name]).assert_fails(5, "give --owner 12345");
    run_with_input(&["send", &name, "--owner", "1"], b"one\n").assert_fails(5, "user 12345");
    run_with_input(&["send", &name, "--owner", "12345"], b"one\n").assert_done();
    let got = run(&["recv", &name, "--owner", "12345", "--count", "1"]);
    got.assert_done();
    assert_eq!(got.text(), "one\n");
    assert_eq!(inspect(&name)["owner"], 12345);
}
