#!/usr/bin/env bash
# Puts the README's figures and its chart in their places, from one run on this machine, which should have nothing else
# to do: `benches/figures.sh [options of annulus bench --all, as --seconds 300 --rounds 9]`.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked -p annulus-cli
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
{
  echo "One run of \`annulus bench --all --markdown --svg docs/bench.svg\` of $(date +%F)."
  echo
  echo "![The kernel's IPC, and what annulus has instead](docs/bench.svg)"
  echo
  target/release/annulus bench --all --markdown --svg docs/bench.svg "$@"
} >"$figures"
sed -i -e "/<!-- figures:begin -->/,/<!-- figures:end -->/{/<!-- figures:begin -->/r $figures" \
  -e '/<!-- figures:/!d}' README.md
