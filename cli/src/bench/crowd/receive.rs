//! What the receivers of a crowd do: each checks every byte, and that each sender's numbers grow; all of them together
//! must have had each number once.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::ground::{Arrived, Post, sender_and_number};
use super::meeting::Receiving;
use crate::bench::link::Failure;
use crate::bench::payload::{Payload, STOP};

/// A receiver's whole work.
pub fn receive<R: Receiving<Message: Payload>>(
    link: &mut R,
    post: &Post<'_>,
) -> Result<(), Failure> {
    let Post { ground, .. } = *post;
    let mut messages = post.blank::<R::Message>();
    let mut arrived = vec![Arrived::default(); post.terms.senders];
    let mut barrier = post.barrier();
    loop {
        barrier.wait();
        let count = ground.count.0.load(Relaxed);
        if count == 0 {
            return Ok(());
        }
        arrived.fill(Arrived::default());
        while !receive_some(link, count, &mut messages, &mut arrived)? {}
        // The word to stop comes after everything, but for a single receiver of lanes, among which there is no order.
        while post.terms.receivers == 1 && arrived.iter().any(|arrived| arrived.count < count) {
            receive_some(link, count, &mut messages, &mut arrived)?;
        }
        ground.ended.0.fetch_min(post.clock.now(), Relaxed);
        for (desk, arrived) in ground.senders.iter().zip(&arrived) {
            desk.add(arrived);
        }
        ground.stopped.0.fetch_add(1, AcqRel);
        barrier.wait();
    }
}

/// Receives and checks what one call gives; whether that ended with the word to stop.
fn receive_some<R: Receiving<Message: Payload>>(
    link: &mut R,
    count: u64,
    messages: &mut [R::Message],
    arrived: &mut [Arrived],
) -> Result<bool, Failure> {
    let received = link.recv(messages)?;
    let mut stop = false;
    for message in &messages[..received] {
        let sequence = message.sequence();
        if stop || !message.matches(sequence) {
            return Err(Failure::wrong(sequence));
        }
        if sequence == STOP {
            stop = true;
            continue;
        }
        let (sender, number) = sender_and_number(sequence);
        match arrived.get_mut(sender) {
            Some(arrived) if number > arrived.last && number <= count => arrived.add(number),
            Some(arrived) => return Err(out_of_order(sender, number, arrived.last)),
            None => return Err(Failure::wrong(sequence)),
        }
    }
    Ok(stop)
}

#[cold]
fn out_of_order(sender: usize, number: u64, last: u64) -> Failure {
    Failure::WrongPayload(format!(
        "message {number} of sender {sender} arrived after its message {last}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::crowd::ground::sequence_of;
    use crate::bench::crowd::meeting::Sending;
    use crate::bench::crowd::meeting::tests::Queue;

    /// What a receiver says to messages under these numbers, all in one call, of two senders with ten each.
    fn verdict(sequences: &[u64], spoil: bool) -> Result<bool, Failure> {
        let queue = Queue::default();
        for &sequence in sequences {
            let mut message = <[u64; 2]>::blank(16);
            message.fill(sequence);
            message[1] ^= u64::from(spoil);
            (&queue).send(&[message]).unwrap();
        }
        let mut arrived = [Arrived::default(); 2];
        receive_some(&mut &queue, 10, &mut [<[u64; 2]>::blank(16); 8], &mut arrived)
    }

    #[test]
    fn what_should_not_arrive_is_noticed() {
        let of_second = |number| sequence_of(1, number);
        assert_eq!(verdict(&[1, of_second(1), 3, of_second(10)], false), Ok(false));
        assert_eq!(verdict(&[10, STOP], false), Ok(true));
        for wrong in
            [&[2, 1][..], &[2, 2], &[0], &[11], &[sequence_of(2, 1)], &[STOP, 1], &[STOP, STOP]]
        {
            let verdict = verdict(wrong, false);
            assert!(matches!(verdict, Err(Failure::WrongPayload(_))), "{wrong:?}");
        }
        assert!(matches!(verdict(&[1], true), Err(Failure::WrongPayload(_))));
    }
}
