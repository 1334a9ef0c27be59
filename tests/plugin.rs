//! The example with an untrusted plugin, run as its users would run it.

use std::path::PathBuf;
use std::process::Command;

/// The example's program. `cargo test` has built it; for `cargo test --test plugin` it is built here.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap();
    let path = directory.join("examples").join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "--example", name]);
        build.arg("--target-dir").arg(directory.parent().unwrap());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    }
    path
}

#[test]
fn a_service_survives_its_plugin_and_says_so() {
    let output = Command::new(example("plugin")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("plugin: gibber").count(), 1, "{text}");
    assert_eq!(text.matches("service: the plugin went mad").count(), 1, "{text}");
    for number in 1..=6 {
        let answer = format!("the square of {number} is {}\n", number * number);
        assert!(text.contains(&answer), "{text}");
    }
    assert!(text.ends_with("service: all is well\n"), "{text}");
}
