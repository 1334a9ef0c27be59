//! What figures depend on and a reader has to know.

use serde::Serialize;

use super::clock::Clock;
use super::processors::Processors;

/// The machine and the kernel of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors_online: usize,
    pub virtual_machine: bool,
    pub kernel: String,
    pub clock: &'static str,
    /// Processes that wanted to run in the minute before, on average.
    pub load_before: f64,
    /// Which processors the workers had, in turn; `None` if they were not bound.
    pub cpus: Option<Vec<usize>>,
    /// How near the first two are to each other.
    pub relation: &'static str,
}

impl Machine {
    pub fn describe(
        clock: Clock,
        processors: &Processors,
        workers: usize,
        one_cpu: bool,
        load_before: f64,
    ) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = nix::sys::utsname::uname();
        Self {
            processor: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            processors_online: nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN)
                .ok()
                .flatten()
                .map_or(1, |count| count as usize),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            kernel: kernel.map_or("Linux".into(), |name| {
                format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
            }),
            clock: clock.name(),
            load_before,
            cpus: processors.bound(workers, one_cpu),
            relation: if one_cpu { "one processor" } else { processors.relation() },
        }
    }

    /// The description as one or two lines of text.
    pub fn lines(&self) -> Vec<String> {
        let virtual_machine = if self.virtual_machine { " (virtual machine)" } else { "" };
        let place = match self.cpus.as_deref() {
            Some([one, others @ ..]) if others.iter().all(|other| other == one) => {
                format!("all processes on processor {one}")
            }
            Some([near, far]) => {
                format!("processes on processors {near} and {far} ({})", self.relation)
            }
            Some(cpus) => {
                let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
                format!("processes in turn on processors {}", cpus.join(", "))
            }
            None => "processes not bound to processors".into(),
        };
        vec![
            format!(
                "{}, {}{virtual_machine}, {}",
                self.processor,
                match self.processors_online {
                    1 => "one processor".into(),
                    count => format!("{count} processors"),
                },
                self.kernel
            ),
            format!("{place}; timed with the {}", self.clock),
        ]
    }

    /// What to tell somebody whose machine had other work.
    pub fn warning(&self) -> Option<String> {
        let busy = self.load_before >= self.processors_online as f64;
        busy.then(|| {
            let load = self.load_before;
            format!(
                "other work was running (load average {load:.1}): figures are disturbed, rates most"
            )
        })
    }
}

/// Processes that wanted to run in the last minute, on average.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_is_one() {
        let mut machine = crate::bench::report::tests::example().machine;
        assert_eq!(machine.lines()[0], "Some Processor, 2 processors (virtual machine), Linux 6.0");
        assert!(machine.lines()[1].starts_with("processes on processors 0 and 1 (two cores of"));
        machine.cpus = Some(vec![0, 1, 3]);
        assert!(machine.lines()[1].starts_with("processes in turn on processors 0, 1, 3;"));
        (machine.processors_online, machine.cpus) = (1, Some(vec![3; 4]));
        assert_eq!(
            machine.lines()[0],
            "Some Processor, one processor (virtual machine), Linux 6.0"
        );
        assert!(machine.lines()[1].starts_with("all processes on processor 3;"));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A Processor @ 2 GHz\nflags\t\t: fpu tsc\n";
        assert_eq!(field(text, "model name"), Some("A Processor @ 2 GHz"));
        assert_eq!(field(text, "model"), Some("85"));
        assert_eq!(field(text, "bogus"), None);
    }
}
