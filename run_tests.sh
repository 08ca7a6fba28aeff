#!/usr/bin/env bash
# Makes .venv on first use and runs the checks and the tests but the slow ones. Arguments are passed on to pytest:
#   ./run_tests.sh -m slow    what takes longer: kills and resumes, the estimator contract, the embedded model
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/venv.sh
source "$HERE/scripts/venv.sh"
llmsr_venv requirements.txt requirements-dev.txt
cd "$HERE"
# two processes with a thread per core each would wait for one another
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
ruff check .
ruff format --check .
mypy
# the kernels are compiled here, once: else the first tests of every process wait for them
python -c 'from llmsr.fitting import warm_up; warm_up()'
# one process per core: a test may start processes of its own, and most wait for theirs
exec python -m pytest -n auto --dist worksteal "$@"
