#!/usr/bin/env bash
# train.sh OUT: the real thing on a GPU, in minutes, with the embedded model. PARTS chooses: train resume curriculum.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
PARTS=${PARTS:-train resume curriculum}
cd "$HERE/../.."
MODEL=llmsr/llm/skeleton_lm
common=(--use_rl --trainer verl --gpus "${GPUS:-1}" --batch_size 8 --rollout_n 8 --prompts 80 --learning_rate 5e-5
  --max_prompt_length 1024 --max_response_length 128 --gpu_memory_utilization 0.3 --seed 1)
logs() { tail -n 60 "$1"/logs/*.log >&2 || true; }

for part in $PARTS; do
  started=$SECONDS
  case $part in
    train) # 3 epochs of 10 steps of 64 answers
      run=$OUT/train
      python main.py "${common[@]}" --model_path $MODEL --epochs 3 --test_freq 10 --output_dir "$run" || { logs "$run"; exit 1; }
      python tests/gpu/check_run.py "$run" --steps 30 --rising ;;
    resume) # 4 steps, then 4 more
      run=$OUT/resume
      small=(--prompts 32 --test_freq 0 --save_freq 2 --output_dir "$run" --model_path $MODEL)
      python main.py "${common[@]}" "${small[@]}" --epochs 1 || { logs "$run"; exit 1; }
      python main.py "${common[@]}" "${small[@]}" --epochs 2 --resume || { logs "$run"; exit 1; }
      python tests/gpu/check_run.py "$run" --steps 8 ;;
    curriculum) # from the trained model to another problem
      run=$OUT/curriculum
      python main.py "${common[@]}" --problem_name bactgrow --prompts 32 --epochs 1 --test_freq 0 \
        --model_path "$OUT/train/checkpoints/final" --output_dir "$run" || { logs "$run"; exit 1; }
      python tests/gpu/check_run.py "$run" --steps 4 ;;
  esac
  echo "$part took $((SECONDS - started)) s"
done
