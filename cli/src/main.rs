//! annulus command.

mod bench;

fn main() {
    bench::run();
}
