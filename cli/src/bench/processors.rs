//! Where the workers run.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors of a run, and whether workers are bound to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    /// The first two that this process may use, or the only one twice.
    pub pair: [usize; 2],
    /// All that it may use.
    all: Vec<usize>,
    pub pinned: bool,
}

/// Where one worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    cpu: usize,
    /// Stays there; a worker that is free only starts there, as unrelated processes start apart.
    bound: bool,
}

impl Seat {
    /// Moves the calling process there.
    pub fn take(self) -> nix::Result<()> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let mut set = CpuSet::new();
        set.set(self.cpu)?;
        sched_setaffinity(this, &set)?;
        if self.bound { Ok(()) } else { sched_setaffinity(this, &allowed) }
    }
}

impl Processors {
    /// Takes the processors of the affinity mask.
    pub fn choose(pinned: bool) -> nix::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let all: Vec<usize> =
            (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
        let first = all.first().copied().unwrap_or(0);
        Ok(Self { pair: [first, all.get(1).copied().unwrap_or(first)], all, pinned })
    }

    /// There is only one to use.
    pub fn single(&self) -> bool {
        self.pair[0] == self.pair[1]
    }

    /// Where each worker runs.
    pub fn of_workers(&self, one_cpu: bool) -> [Seat; 2] {
        let bound = self.pinned || one_cpu;
        self.of_limits(one_cpu).map(|seat| Seat { bound, ..seat })
    }

    /// Where each of `count` workers runs: on all processors in turn.
    pub fn of_crowd(&self, count: usize, one_cpu: bool) -> Vec<Seat> {
        let bound = self.pinned || one_cpu;
        let all = if one_cpu || self.all.is_empty() { &self.pair[..1] } else { &self.all[..] };
        all.iter().cycle().take(count).map(|&cpu| Seat { cpu, bound }).collect()
    }

    /// Those that `count` workers are bound to; `None` if they are not.
    pub fn bound(&self, count: usize, one_cpu: bool) -> Option<Vec<usize>> {
        let seats = self.of_crowd(count.max(2), one_cpu);
        let cpus = seats.iter().take(self.all.len().max(2)).map(|seat| seat.cpu);
        seats[0].bound.then(|| cpus.collect())
    }

    /// The same while a limit of the machine is measured: that belongs to two processors, whatever the
    /// scheduler does with workers that are free to move.
    pub fn of_limits(&self, one_cpu: bool) -> [Seat; 2] {
        let second = if one_cpu { 0 } else { 1 };
        [self.pair[0], self.pair[second]].map(|cpu| Seat { cpu, bound: true })
    }

    /// For the description of the machine: how near the two are to each other.
    pub fn relation(&self) -> &'static str {
        if self.single() {
            return "one processor";
        }
        let of = |cpu: usize, file: &str| {
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}")).ok()
        };
        let [first, second] = self.pair;
        let same = |file: &str| of(first, file).is_some() && of(first, file) == of(second, file);
        match (same("core_cpus_list"), same("physical_package_id")) {
            (true, _) => "two threads of one core",
            (false, true) => "two cores of one socket",
            (false, false) if of(first, "physical_package_id").is_some() => "of two sockets",
            (false, false) => "how near is not known",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_where_they_should() {
        let seat = |cpu, bound| Seat { cpu, bound };
        let two = Processors { pair: [2, 5], all: vec![2, 5], pinned: true };
        assert_eq!(two.of_workers(false), [seat(2, true), seat(5, true)]);
        assert_eq!(two.of_workers(true), [seat(2, true); 2]);
        assert_eq!(two.of_crowd(3, false), [seat(2, true), seat(5, true), seat(2, true)]);
        assert_eq!(two.of_crowd(3, true), [seat(2, true); 3]);
        assert_eq!(two.bound(3, false), Some(vec![2, 5]));
        assert_eq!(two.bound(2, true), Some(vec![2, 2]));
        let free = Processors { pinned: false, ..two };
        assert_eq!(free.bound(2, false), None);
        assert_eq!(free.of_workers(false), [seat(2, false), seat(5, false)]);
        assert_eq!(free.of_workers(true), [seat(2, true); 2]);
        assert_eq!(free.of_limits(false), [seat(2, true), seat(5, true)]);
        assert!(!free.single());
    }

    #[test]
    fn this_machine_has_a_processor() {
        let chosen = Processors::choose(true).unwrap();
        assert!(chosen.pair[0] <= chosen.pair[1]);
        assert!(!chosen.relation().is_empty());
    }
}
