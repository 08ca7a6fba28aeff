#!/usr/bin/env bash
# Writes the lock files anew: every package with its version and hashes, for Python 3.11 to 3.13 on any platform.
# Needs uv (pip install uv). torch has a lock of its own, since its CPU builds come from PyTorch's index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=venv.sh
source scripts/venv.sh

compile() { # input, output, flags
  uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header "${@:3}" \
    "$1" -o "$2"
}

input=$(mktemp --suffix=.in)
trap 'rm -f "$input"' EXIT
grep -v '^torch' requirements.txt >"$input"
printf '%s\n' filelock fsspec jinja2 networkx setuptools sympy typing-extensions >>"$input" # what torch needs
compile "$input" requirements.lock --universal --python-version 3.11

echo "torch==$LLMSR_TORCH" >"$input"
compile "$input" requirements-torch.lock --universal --python-version 3.11 --no-deps

compile requirements-gpu.txt requirements-gpu.lock --python-version 3.11 --python-platform x86_64-manylinux_2_28
