//! Which lane's next message has the lowest number.
//!
//! A tournament (Knuth, The Art of Computer Programming, volume 3, 5.4.1): lanes play in pairs, winners play on, so that a
//! lane whose number changes plays again with one rival in each round.

/// The number of a lane that has none.
pub(super) const NONE: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Contest {
    /// Of each lane; as many as a power of two.
    numbers: Box<[u64]>,
    /// Who won each game: game 1 is the last one, games 2i and 2i + 1 come before game i.
    winners: Box<[u8]>,
}

impl Contest {
    /// None of `lanes` lanes, of which there are at most 64, has a number.
    pub(super) fn of(lanes: usize) -> Self {
        let seats = lanes.next_power_of_two();
        let mut contest =
            Self { numbers: vec![NONE; seats].into(), winners: vec![0; seats].into() };
        // Nobody wins a game in which it does not play.
        (0..seats).for_each(|lane| contest.put(lane, NONE));
        contest
    }

    /// The number of `lane` is `number` from now on.
    pub(super) fn put(&mut self, lane: usize, number: u64) {
        self.numbers[lane] = number;
        let seats = self.numbers.len();
        let mut game = (seats + lane) / 2;
        while game > 0 {
            let [one, other] = [2 * game, 2 * game + 1].map(|from| self.winner_of(from));
            let is_one = self.numbers[one] <= self.numbers[other];
            self.winners[game] = if is_one { one } else { other } as u8;
            game /= 2;
        }
    }

    /// Who comes out of a game, or of a lane's seat.
    fn winner_of(&self, game: usize) -> usize {
        let seats = self.numbers.len();
        if game < seats { self.winners[game].into() } else { game - seats }
    }

    /// The lane with the lowest number; any if none has one.
    pub(super) fn winner(&self) -> usize {
        self.winner_of(1)
    }

    pub(super) fn number_of(&self, lane: usize) -> u64 {
        self.numbers[lane]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Contest, NONE};

    #[test]
    fn the_lowest_wins() {
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 33
        };
        for lanes in 1..=64 {
            let (mut contest, mut numbers) = (Contest::of(lanes), vec![NONE; lanes]);
            for _ in 0..200 {
                let lane = random() as usize % lanes;
                let number = if random() % 4 == 0 { NONE } else { random() };
                contest.put(lane, number);
                numbers[lane] = number;
                assert_eq!(numbers[contest.winner()], *numbers.iter().min().unwrap());
            }
        }
    }
}
