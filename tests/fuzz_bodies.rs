//! The bodies of the fuzz targets on stable Rust: the kept corpus, and random bytes.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use proptest::prelude::*;
use std::path::Path;

/// Runs `body` over every input that was kept for `target`, and says which one fails.
fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| body(&data)).is_err() {
            panic!("{target} fails on {}", path.display());
        }
        count += 1;
    }
    assert!(count > 10, "the corpus of {target} is missing");
}

#[test]
fn the_kept_corpus_passes() {
    replay("attach", bodies::attach);
    replay("broadcast", bodies::broadcast);
    replay("consume", bodies::consume);
    replay("faces", bodies::faces);
    replay("handshake", bodies::handshake);
    replay("latest", bodies::latest);
    replay("mailbox", bodies::mailbox);
    replay("operations", bodies::operations);
    replay("permits", bodies::permits);
    replay("repair", bodies::repair);
    replay("split", bodies::split);
    replay("stream", bodies::stream);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn attaching_to_anything_only_answers(data in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::attach(&data);
    }

    #[test]
    fn a_scribbling_peer_gets_only_errors(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::consume(&data);
    }

    #[test]
    fn calls_answer_as_a_queue_would(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::operations(&data);
    }

    #[test]
    fn a_broadcast_answers_as_queues_would(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::broadcast(&data);
    }

    #[test]
    fn a_variable_answers_as_a_plain_one_would(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::latest(&data);
    }

    #[test]
    fn bytes_pass_as_their_types_do(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::faces(&data);
    }

    #[test]
    fn a_stream_answers_as_a_queue_of_writes_would(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::stream(&data);
    }

    #[test]
    fn a_mailbox_answers_as_a_list_would(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::mailbox(&data);
    }

    #[test]
    fn permits_are_neither_lost_nor_made(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::permits(&data);
    }

    #[test]
    fn repairs_leave_the_living_what_they_have(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::repair(&data);
    }

    #[test]
    fn a_peer_that_says_anything_is_only_answered(data in prop::collection::vec(any::<u8>(), 0..200)) {
        bodies::handshake(&data);
    }

    #[test]
    fn a_peer_that_scribbles_over_its_half_gets_only_errors(data in prop::collection::vec(any::<u8>(), 0..600)) {
        bodies::split(&data);
    }
}
