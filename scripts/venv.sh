# Sourced by the front doors: `llmsr_venv requirements.txt [more.txt ...]` makes .venv beside the project,
# installs what is listed once, and activates it. LLMSR_VENV names another folder, PYTHON another interpreter.

LLMSR_TORCH=2.13.0
LLMSR_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

llmsr_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "llmsr needs Python 3.11, 3.12 or 3.13: install one, or name it in PYTHON" >&2
  return 2
}

# Bytecode of all packages is half of an installation's work, and most of it is never imported: what is, is
# compiled when it is imported first.
llmsr_install() {
  python -m pip install -q --no-compile --disable-pip-version-check "$@"
}

# Without a GPU the CUDA build of torch is gigabytes for nothing: take PyTorch's CPU build where its index
# can be reached, else the pinned version from the default index.
llmsr_torch() {
  python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' && return
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    llmsr_install torch
  else
    PIP_CONFIG_FILE=/dev/null llmsr_install --retries 0 --timeout 5 \
      --index-url https://download.pytorch.org/whl/cpu "torch==$LLMSR_TORCH" 2>/dev/null ||
      llmsr_install "torch==$LLMSR_TORCH"
  fi
}

llmsr_venv() {
  local venv=${LLMSR_VENV:-$LLMSR_HOME/.venv} python file stamp
  if [ ! -x "$venv/bin/python" ]; then
    python=$(llmsr_python) || return 2
    echo "making a virtual environment in $venv" >&2
    "$python" -m venv "$venv" || return 2
  fi
  # shellcheck disable=SC1091
  source "$venv/bin/activate"
  unset PYTHONDONTWRITEBYTECODE # else every process would compile all that it imports anew
  for file in "$@"; do
    stamp="$venv/.installed-$(basename "$file")"
    if ! cmp -s "$LLMSR_HOME/$file" "$stamp"; then
      echo "installing $file (once)" >&2
      llmsr_torch &&
        llmsr_install -r "$LLMSR_HOME/$file" &&
        cp "$LLMSR_HOME/$file" "$stamp" || return 2
    fi
  done
}
