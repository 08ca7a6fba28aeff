#!/usr/bin/env bash
# train.sh OUT: the real thing on a GPU, in minutes, with the embedded model. PARTS chooses:
#   train       30 steps of 64 answers, stopped in the middle of an epoch and resumed
#   curriculum  from the trained model to another problem
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
PARTS=${PARTS:-train curriculum}
cd "$HERE/../.."
common=(--use_rl --trainer verl --gpus "${GPUS:-1}" --batch_size 8 --rollout_n 8 --learning_rate 5e-5
  --max_prompt_length 1024 --max_response_length 128 --gpu_memory_utilization 0.3 --seed 1)
training() { # run directory, further arguments
  local run=$1 started=$SECONDS
  shift
  if ! python main.py "${common[@]}" --output_dir "$run" "$@"; then
    tail -n 60 "$run"/logs/*.log >&2 || true
    exit 1
  fi
  echo "training took $((SECONDS - started)) s"
}

for part in $PARTS; do
  case $part in
    train)
      first=(--model_path llmsr/llm/skeleton_lm --prompts 80 --epochs 3 --save_freq 5 --test_freq 10)
      training "$OUT/train" "${first[@]}" -- trainer.total_training_steps=15
      training "$OUT/train" "${first[@]}" --resume
      python tests/gpu/check_run.py "$OUT/train" --steps 30 --rising ${CHECK:-} ;;
    curriculum)
      training "$OUT/curriculum" --problem_name bactgrow --prompts 64 --epochs 1 --test_freq 0 \
        --model_path "$OUT/train/checkpoints/final"
      python tests/gpu/check_run.py "$OUT/curriculum" --steps 8 ;;
  esac
done
