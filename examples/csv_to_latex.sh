#!/usr/bin/env bash
# From a CSV file to LaTeX: a problem is made from ride.csv, a search finds its equation, `show` prints it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=${OUT:-$PWD/ride}
mkdir -p "$OUT"
cd "$OUT"
python -m llmsr new --name ride --csv "$HERE/ride.csv" --target "power (W)" --description "Power of a cyclist on a road"
python -m llmsr run --problem_name ride --budget "${BUDGET:-300}" --workers "${WORKERS:-0}" --log_path run
python -m llmsr show run
cat run/best_equation.tex
