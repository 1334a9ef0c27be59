#!/usr/bin/env bash
# What the journal's store costs: the crowd bench as it is against a build without that store, in turn, for 1P1C and
# 2P2C at one message a call. Each of PAIRS pairs gives a ratio with / without, of medians of ROUNDS runs of a million
# messages. `benches/journal.sh [PAIRS [ROUNDS]]`, on a machine that does nothing else: PAIRS is odd.
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

# Millions a second of row $2 of the program $1.
rate() {
  "$1" "$rounds" 1024 "$2" | sed -n 's/.*ring *\([0-9.]*\) M.*/\1/p'
}

# The line of standard input at the share $1 of the way up, in order.
quantile() {
  sort -n | sed -n "$((1 + (pairs - 1) * $1 / 100))p"
}

results=$(mktemp)
for row in 1 2; do
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
  echo "${row}P${row}C: with $(column 1 | quantile 50) M/s, without $(column 2 | quantile 50) M/s;" \
    "ratio $(column 3 | quantile 50), half of them within" \
    "$(column 3 | quantile 25)..$(column 3 | quantile 75); bar 0.97"
done
rm "$results"
