//! `annulus bench`: two processes, our rings and the kernel's transports, the same work for all in one run.

mod clock;
mod link;
mod links;
mod measure;
mod payload;
mod processors;
mod rows;
mod run;
mod shared;
mod tally;
mod units;
mod workers;

pub fn run() {
    let crew = workers::Crew::new().unwrap();
    let bench = run::Bench { crew, clock: clock::Clock::calibrate(), processors: processors::Processors::choose(true).unwrap() };
    let selection = rows::Selection { sizes: None, own: vec![], waits: vec![], kernel: rows::Kernel::ALL.to_vec(), one_cpu: std::env::args().nth(1).is_some() };
    let mut rows = selection.rows();
    rows.push(rows::Row { carrier: rows::Carrier::CopyLimit, size: 65536, one_cpu: false });
    let floor = rows::Row { carrier: rows::Carrier::Floor, size: 8, one_cpu: selection.one_cpu };
    let t = std::time::Instant::now();
    match run::run(&bench, &floor, &rows, run::Schedule { rounds: 1, total: std::time::Duration::from_secs(10) }, |_, _| ()) {
        Ok((f, tallies)) => {
            println!("floor {:?}", f.rounds.iter().map(|r| r.round_trips.value_at_quantile(0.5)).collect::<Vec<_>>());
            for (row, tally) in rows.iter().zip(tallies) {
                println!("{} {:?} {:?} {:?}", row.describe(), tally.p50_ns(), tally.msgs_per_s().map(units::rate), tally.skipped);
            }
        }
        Err(abort) => println!("{abort}"),
    }
    println!("{:?}", t.elapsed());
}
