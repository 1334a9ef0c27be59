//! Every end of every named edge is needed, and every bound: with it weakened, or one larger, some model fails.
//!
//! A model fails by a panic that leaves loom unusable, so each change has a process of its own: this test
//! starts itself again, and the name of the change is in the environment. That all models pass with nothing
//! changed is what the other tests show.

#![cfg(loom)]

use annulus::sync::{Bound, Edge, model};
use annulus_loom_tests::broadcast::{BROADCAST_UNDISTURBED, Channel};
use annulus_loom_tests::latest::{LATEST_UNDISTURBED, Variable};
use annulus_loom_tests::mail::{ACCIDENTS, Accident, MAILROOMS, Mailroom};
use annulus_loom_tests::{flags, models, permits};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const CHANGE: &str = "ANNULUS_CHANGE";

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// An edge is a relaxed access.
    Weakened(Edge),
    /// A bound is one larger.
    Loosened(Bound),
}

impl Change {
    fn all() -> Vec<Self> {
        let edges = Edge::ALL.into_iter().map(Self::Weakened);
        edges.chain(Bound::ALL.into_iter().map(Self::Loosened)).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Weakened(edge) => format!("{edge:?}"),
            Self::Loosened(bound) => format!("{bound:?} + 1"),
        }
    }
}

/// loom makes the stores of one thread visible in their order, and a read-modify-write reads the last of them.
/// That the journal must not pass what was filled before it, as it may on ARM, it cannot show, nor that of two numbers the
/// one that was drawn first must be the lower one (C8), nor a load that a store overtakes (the load end of P2; the barrier
/// of P1 covers what else it carries). DESIGN.md argues it, and the tests C1, C8 and P2 in `litmus/` show it.
const BEYOND_LOOM: [Edge; 4] =
    [Edge::IntentStore, Edge::IntentLoad, Edge::TurnLoad, Edge::RingLoad];

#[test]
fn every_end_of_every_edge_and_every_bound_is_needed() {
    let (changes, next) = (Change::all(), AtomicUsize::new(0));
    let (done, outcomes) = mpsc::channel();
    let mut survivors = Vec::new();
    println!("{:<15} | {:<55} | as", "changed", "caught by");
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (changes, next, done) = (&changes, &next, done.clone());
            scope.spawn(move || {
                while let Some(&change) = changes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    done.send((change, caught(change))).expect("the table is written to its end");
                }
            });
        }
        drop(done);
        // In the order of the list, whichever is done first.
        let mut early = Vec::new();
        for &change in &changes {
            let outcome = loop {
                if let Some(at) = early.iter().position(|&(which, _)| which == change) {
                    break early.swap_remove(at).1;
                }
                early.push(outcomes.recv().expect("each change has an outcome"));
            };
            let name = change.name();
            match outcome {
                Caught::BeyondLoom => println!("{name:<15} | beyond loom"),
                Caught::By(model, complaint) => {
                    println!("{name:<15} | {model:<55} | {complaint}");
                }
                Caught::Not => {
                    println!("{name:<15} | nothing");
                    survivors.push(change);
                }
            }
        }
    });
    assert!(survivors.is_empty(), "no model needs {survivors:?}");
}

/// Whether a change makes a model fail.
enum Caught {
    /// The model, and what it says.
    By(String, String),
    Not,
    BeyondLoom,
}

fn caught(change: Change) -> Caught {
    if matches!(change, Change::Weakened(edge) if BEYOND_LOOM.contains(&edge)) {
        return Caught::BeyondLoom;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "models_with_a_change", "--ignored", "--nocapture"])
        .env(CHANGE, change.name())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    if output.status.success() {
        return Caught::Not;
    }
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let caught_by = stdout.lines().rev().find_map(|line| line.strip_prefix("model "));
    let (_, complaint) = stderr.split_once("panicked at ").unwrap_or_default();
    let complaint = complaint.lines().map(str::trim).skip(1).find(|line| !line.is_empty());
    Caught::By(
        caught_by.expect("it fails in a model").into(),
        complaint.expect("a model says why it fails").into(),
    )
}

/// What the processes of the test above run.
#[test]
#[ignore = "run by every_end_of_every_edge_and_every_bound_is_needed"]
fn models_with_a_change() {
    let name = std::env::var(CHANGE).expect("the name of a change is in the environment");
    let change = Change::all().into_iter().find(|change| change.name() == name);
    match change.expect("there is such a change") {
        Change::Weakened(edge) => models_with_a_weakened(edge),
        Change::Loosened(bound) => {
            model::loosen(bound);
            let of_records =
                matches!(bound, Bound::OwnedBytes | Bound::NextRecord | Bound::BesideRecord);
            let list = if of_records { models::RECORDS_OWNED } else { models::SLOTS_OWNED };
            list.iter().for_each(models::Model::run);
        }
    }
}

fn models_with_a_weakened(edge: Edge) {
    model::weaken(edge);
    // The models of what has the edge go first: the sooner it is caught the better.
    match edge {
        Edge::PermitStore | Edge::PermitLoad => {
            return permits::UNDISTURBED.iter().for_each(permits::Trade::run);
        }
        Edge::WitnessStore | Edge::WitnessLoad => {
            return permits::DEATHS.iter().for_each(permits::Trade::run);
        }
        Edge::LookStore | Edge::LookLoad => {
            return MAILROOMS.iter().for_each(Mailroom::run);
        }
        Edge::DrawStore | Edge::DrawLoad => {
            return ACCIDENTS.iter().for_each(Accident::run);
        }
        Edge::RaiseStore | Edge::RaiseLoad => {
            return flags::UNDISTURBED.iter().for_each(flags::Signals::run);
        }
        _ => {}
    }
    let claims = matches!(
        edge,
        Edge::IntentStore
            | Edge::IntentLoad
            | Edge::ClaimStore
            | Edge::ClaimLoad
            | Edge::FillStore
            | Edge::FillLoad
            | Edge::EmptyStore
            | Edge::EmptyLoad
            | Edge::OrphanStore
            | Edge::OrphanLoad
    );
    if claims {
        // What only repairers and receivers of orphans need shows when somebody dies.
        let mut lists = [models::CLAIMS_UNDISTURBED, models::CLAIMS_DEATHS, models::CLAIMS_REPAIRS];
        if !matches!(edge, Edge::FillStore | Edge::FillLoad | Edge::EmptyStore | Edge::EmptyLoad) {
            lists.rotate_left(1);
        }
        return lists.into_iter().flatten().for_each(models::Meeting::run);
    }
    let latest = matches!(
        edge,
        Edge::ValueStore
            | Edge::ValueLoad
            | Edge::HelpLoad
            | Edge::LeaveStore
            | Edge::LeaveLoad
            | Edge::ChooseWriter
            | Edge::ChooseReader
            | Edge::OverwriteStore
            | Edge::OverwriteLoad
    );
    if latest {
        return LATEST_UNDISTURBED.iter().for_each(Variable::run);
    }
    let broadcast = matches!(
        edge,
        Edge::JoinSender
            | Edge::JoinReceiver
            | Edge::OverrunLoad
            | Edge::GateStore
            | Edge::GateLoad
            | Edge::AimStore
            | Edge::AimLoad
    );
    if broadcast {
        return BROADCAST_UNDISTURBED.iter().for_each(Channel::run);
    }
    let lists = [models::SLOTS_UNDISTURBED, models::RECORDS_UNDISTURBED, models::PARK_UNDISTURBED];
    let first = match edge {
        Edge::ParkNotify | Edge::ParkAnnounce | Edge::RingStore => 2,
        Edge::RecordStore
        | Edge::RecordLoad
        | Edge::SpaceStore
        | Edge::SpaceLoad
        | Edge::SpaceHeadStore
        | Edge::SpaceHeadLoad => 1,
        _ => 0,
    };
    lists.into_iter().cycle().skip(first).take(3).flatten().for_each(models::Model::run);
}
