#!/usr/bin/env bash
# GRPO on the CPU: the embedded model is trained on oscillator1, and the trained one searches on oscillator2.
# MODEL_PATH takes another small model, such as Qwen/Qwen2.5-0.5B-Instruct; on a GPU use ./run_llmsr_grpo.sh.
set -euo pipefail
OUT=${OUT:-logs/grpo_small_model}
python -m llmsr run --use_rl --trainer local --problem_name oscillator1 ${MODEL_PATH:+--model_path "$MODEL_PATH"} \
  --memory puct --advantage entropic --budget "${BUDGET:-640}" --batch_size 4 --rollout_n 4 \
  --workers "${WORKERS:-0}" --output_dir "$OUT/training"
python -m llmsr run --model_path "$OUT/training/checkpoints/final" --problem_name oscillator2 \
  --budget "${BUDGET:-640}" --workers "${WORKERS:-0}" --log_path "$OUT/search"
python -m llmsr show "$OUT/search"
