//! Descriptors to poll: every interleaving of the models, every death of the peer, and what is left out.

#![cfg(loom)]

use annulus_loom_tests::pollable::{DEATHS, Fault, Poller, UNDISTURBED};
use std::process::Command;

const FAULT: &str = "ANNULUS_FAULT";

#[test]
fn undisturbed() {
    UNDISTURBED.iter().for_each(|model| model.run(None));
}

#[test]
fn deaths() {
    DEATHS.iter().for_each(|model| model.run(None));
}

/// A model that fails leaves loom unusable, so each has a process of its own.
#[test]
fn both_threads_have_to_announce() {
    for fault in [Fault::ArmsInSilence, Fault::SleepsInSilence] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "models_with_a_fault", "--ignored"])
            .env(FAULT, format!("{fault:?}"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "no model needs what {fault:?} leaves out");
        assert!(said.contains("deadlock"), "{fault:?}: {said}");
    }
}

/// What the processes of the test above run.
#[test]
#[ignore = "run by both_threads_have_to_announce"]
fn models_with_a_fault() {
    let name = std::env::var(FAULT).expect("the name of a fault is in the environment");
    let faults = [Fault::ArmsInSilence, Fault::SleepsInSilence];
    let fault = faults.into_iter().find(|fault| format!("{fault:?}") == name);
    let run = |model: &Poller| model.run(Some(fault.expect("there is such a fault")));
    UNDISTURBED.iter().for_each(run);
}
