#!/usr/bin/env bash
# From a clone to equations: makes .venv on first use, then runs the evolutionary search, offline, with the
# embedded model. From the environment: PROBLEM_NAME (oscillator1), BUDGET (1000 completions), SEED (0).
# Arguments are passed on to main.py, for example: ./run_llmsr.sh --search best_of_n
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/venv.sh
source "$HERE/scripts/venv.sh"
llmsr_venv requirements.txt
cd "$HERE"
exec python main.py --problem_name "${PROBLEM_NAME:-oscillator1}" --budget "${BUDGET:-1000}" --seed "${SEED:-0}" "$@"
