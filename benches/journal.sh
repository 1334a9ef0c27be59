#!/usr/bin/env bash
# What the journal's stores cost: the crowd bench as it is against a build without them, in turn, at one message a
# call. Each of PAIRS pairs gives a ratio with / without: of medians of ROUNDS runs of a million messages for 1P1C and
# 2P2C, and of the least times on one thread. `benches/journal.sh [PAIRS [ROUNDS]]`, on a machine that does
# nothing else, but for the row of one thread; PAIRS is odd.
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-31} rounds=${2:-3}

# The path of the bench's program, built with the flags in RUSTFLAGS in the directory $1.
build() {
  cargo bench --locked -p annulus --bench crowd --no-run --target-dir "$1" 2>&1 |
    sed -n 's/.*Executable.*(\(.*\))$/\1/p'
}
with=$(build target)
without=$(RUSTFLAGS="--cfg annulus_no_journal" build target/no-journal)

# Messages a microsecond in row $2 of the program $1.
rate() {
  "$1" "$rounds" 1024 "$2" |
    sed -n -e 's/.*ring *\([0-9.]*\) M.*/\1/p' -e 's/.*ring *\([0-9.]*\) ns.*/1000 \1/p' |
    awk '{ print NF == 2 ? $1 / $2 : $1 }'
}

# The line of standard input at the share $1 of the way up, in order.
quantile() {
  sort -n | sed -n "$((1 + (pairs - 1) * $1 / 100))p"
}

results=$(mktemp)
for row in 7 1 2; do
  for ((pair = 0; pair < pairs; pair++)); do
    # Each goes first as often.
    if ((pair % 2)); then
      b=$(rate "$without" $row)
      a=$(rate "$with" $row)
    else
      a=$(rate "$with" $row)
      b=$(rate "$without" $row)
    fi
    awk "BEGIN { print $a, $b, $a / $b }"
  done >"$results"
  column() { cut -d ' ' -f "$1" "$results"; }
  name=${row}P${row}C
  ((row < 7)) || name="one thread"
  echo "$name: with $(column 1 | quantile 50) M/s, without $(column 2 | quantile 50) M/s;" \
    "ratio $(column 3 | quantile 50), half of them within" \
    "$(column 3 | quantile 25)..$(column 3 | quantile 75); bar 0.97"
done
rm "$results"
