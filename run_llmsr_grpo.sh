#!/usr/bin/env bash
# From a clone to a trained model: makes .venv on first use, then trains by GRPO; with VERL where a CUDA device is,
# otherwise the embedded model in this process. From the environment: PROBLEM_NAME, MODEL_PATH, EPOCHS, BATCH_SIZE,
# LEARNING_RATE, ROLLOUT_N, GPUS, NNODES, SPEC_PATH, OUTPUT_DIR, TRAINER (auto, verl, local), SEED; what is not set has
# the default of `python main.py --use_rl --help`. Arguments are passed on to main.py, those after `--` to VERL:
#   EPOCHS=1 BATCH_SIZE=4 ROLLOUT_N=2 ./run_llmsr_grpo.sh --dry_run -- trainer.val_before_train=False
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/venv.sh
source "$HERE/scripts/venv.sh"
# shellcheck source=scripts/arguments.sh
source "$HERE/scripts/arguments.sh"

requirements=(requirements.txt)
if [ "${TRAINER:-auto}" != local ] && command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  # the versions that VERL and vLLM need, for everything that is installed here
  export PIP_CONSTRAINT="$HERE/constraints-gpu.txt"
  requirements=(requirements-gpu.txt requirements.txt)
fi
llmsr_venv "${requirements[@]}"

pass --problem_name "${PROBLEM_NAME:-}"
pass --trainer "${TRAINER:-}"
pass --model_path "$(from_here "${MODEL_PATH:-}")"
pass --spec_path "$(from_here "${SPEC_PATH:-}")"
pass --output_dir "${OUTPUT_DIR:+$(cd "$CALLED_FROM" && realpath -m "$OUTPUT_DIR")}"
pass --epochs "${EPOCHS:-}"
pass --batch_size "${BATCH_SIZE:-}"
pass --learning_rate "${LEARNING_RATE:-}"
pass --rollout_n "${ROLLOUT_N:-}"
pass --gpus "${GPUS:-}"
pass --nnodes "${NNODES:-}"
pass --seed "${SEED:-}"
pass_on "$@"

cd "$HERE"
exec python main.py --use_rl ${arguments[@]+"${arguments[@]}"}
