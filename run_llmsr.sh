#!/usr/bin/env bash
# From a clone to equations: makes .venv on first use, then runs the evolutionary search, offline, with the
# embedded model. From the environment: PROBLEM_NAME, BUDGET (completions), SEED; what is not set has the default of
# `python main.py --help`. Arguments are passed on to main.py, for example: ./run_llmsr.sh --search best_of_n
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/venv.sh
source "$HERE/scripts/venv.sh"
# shellcheck source=scripts/arguments.sh
source "$HERE/scripts/arguments.sh"
llmsr_venv requirements.txt
pass --problem_name "${PROBLEM_NAME:-}"
pass --budget "${BUDGET:-}"
pass --seed "${SEED:-}"
pass_on "$@"
cd "$HERE"
exec python main.py ${arguments[@]+"${arguments[@]}"}
