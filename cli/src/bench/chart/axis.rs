//! Logarithmic axes.

/// A range of positive values on a range of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Log {
    /// `low` is drawn at `from`, `high` at `to`.
    pub fn new((low, high): (f64, f64), (from, to): (i32, i32)) -> Self {
        Self { low, high: high.max(low * 1.001), from, to }
    }

    /// Where a value is drawn.
    pub fn at(&self, value: f64) -> i32 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + (part * f64::from(self.to - self.from)).round() as i32
    }

    /// The powers of ten on the axis.
    pub fn decades(&self) -> Vec<f64> {
        let first = self.low.log10().ceil() as i32;
        let last = self.high.log10().floor() as i32;
        (first..=last).map(|power| 10f64.powi(power)).collect()
    }
}

/// The smallest range of "round" bounds around all values: 1, 2 or 5 times a power of ten.
pub fn round_bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut low, mut high) = (f64::INFINITY, 0f64);
    for value in values.filter(|value| value.is_finite() && *value > 0.0) {
        low = low.min(value);
        high = high.max(value);
    }
    if high == 0.0 {
        return None;
    }
    let steps = |value: f64| {
        let decade = 10f64.powi(value.log10().floor() as i32);
        [1.0, 2.0, 5.0, 10.0].map(|step| step * decade)
    };
    let low = steps(low).into_iter().rfind(|step| *step <= low * 1.000_001).unwrap_or(low);
    let high = steps(high).into_iter().find(|step| *step >= high * 0.999_999).unwrap_or(high);
    Some((low, high))
}

/// Moves labels apart until they are at least `gap` from each other, keeping their order and staying within `low..=high`
/// as far as there is room. Returns the new places in the order of the old.
pub fn spread(wanted: &[i32], gap: i32, low: i32, high: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&at| wanted[at]);
    let mut places: Vec<f64> = order.iter().map(|&at| f64::from(wanted[at])).collect();
    for _ in 0..200 {
        for at in 1..places.len() {
            let overlap = f64::from(gap) - (places[at] - places[at - 1]);
            if overlap > 0.0 {
                places[at - 1] -= overlap / 2.0;
                places[at] += overlap / 2.0;
            }
        }
        let (low, high) = (f64::from(low), f64::from(high));
        for place in &mut places {
            *place = place.clamp(low, high);
        }
    }
    let mut spread = vec![0; wanted.len()];
    for (&at, place) in order.iter().zip(places) {
        spread[at] = place.round() as i32;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_drawn_by_their_logarithm() {
        let axis = Log::new((10.0, 1000.0), (0, 200));
        assert_eq!((axis.at(10.0), axis.at(100.0), axis.at(1000.0)), (0, 100, 200));
        assert_eq!(axis.decades(), [10.0, 100.0, 1000.0]);
        assert_eq!(Log::new((10.0, 1000.0), (200, 0)).at(100.0), 100);
    }

    #[test]
    fn bounds_are_round_and_hold_everything() {
        assert_eq!(round_bounds([230.0, 81_000.0].into_iter()), Some((200.0, 100_000.0)));
        assert_eq!(round_bounds([100.0].into_iter()), Some((100.0, 100.0)));
        assert_eq!(round_bounds([f64::NAN, 0.0].into_iter()), None);
    }

    #[test]
    fn labels_do_not_overlap() {
        let places = spread(&[100, 101, 300, 99, 102], 15, 0, 400);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 14), "{places:?}");
        assert!(places[3] < places[0] && places[0] < places[1] && places[1] < places[4]);
        assert!((places[2] - 300).abs() <= 1);
    }
}
