#!/usr/bin/env bash
# train.sh OUT: the real thing on a GPU, in minutes, with the embedded model. PARTS chooses, in this order:
#   train       30 steps of 64 answers, stopped in the middle of an epoch and resumed
#   curriculum  from the trained model to another problem (needs train)
#   none        fixed prompts, plain advantages; STEPS steps for each of SEEDS
#   puct        PUCT in the prompt, entropic advantages; the same
#   islands     islands in the prompt, plain advantages; the same
#   lora        adapters of rank 16, 6 steps, merged and verified
#   two         as none, over two GPUs, 8 steps
#   chat        the README's training command with MODEL, a chat model: what its prompts are worth, 40 steps of 32 x 5
#               answers, every answer archived once, the exported model served by vLLM
#   search      --proposer vllm on the same model, as many samples as STEPS steps have, for each of SEEDS
# Each part's run lies in OUT/<part>-s<seed>, with OUT/<run>.log and OUT/<run>.usage.jsonl (memory, seconds)
# beside it. EXTRA are flags of trainings, SEARCH_EXTRA of searches, OVERRIDES keys of VERL. Runs that share a
# GPU want a fixed cache, else vLLM measures memory while a neighbour frees it:
#   OVERRIDES=+actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=4294967296
#   SEARCH_EXTRA="--vllm_args=--kv-cache-memory-bytes=4294967296"
# A part whose run is done is skipped, a run that failed is said and the next one begins. May be
# started with setsid; the table at the end is printed and kept in OUT/table.txt.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
PARTS=${PARTS:-train curriculum}
SEEDS=${SEEDS:-0}
STEPS=${STEPS:-30}
PROBLEM=${PROBLEM:-oscillator1}
MODEL=${MODEL:-llmsr/proposers/skeleton_lm}
ANSWERS=64
cd "$HERE/../.." || exit 2
failed=0

common=(--use_rl --trainer verl --batch_size 8 --rollout_n 8 --learning_rate "${LEARNING_RATE:-5e-5}"
  --max_prompt_length 1024 --max_response_length 128)

record() { # run, command...: its output to a file, its memory beside it
  local run=$1 started=$SECONDS
  shift
  if ! python tests/gpu/usage.py "$OUT/$run.usage.jsonl" "$@" >"$OUT/$run.log" 2>&1 </dev/null; then
    echo "$run FAILED after $((SECONDS - started)) s:" >&2
    tail -n 15 "$OUT/$run.log" >&2
    tail -n 25 "$OUT/${run%+*}"/logs/verl-*.log >&2 2>/dev/null
    failed=1
    return 1
  fi
  echo "$run took $((SECONDS - started)) s"
}

training() { # run, flags...
  local run=$1
  shift
  [ -d "$OUT/$run/checkpoints/final" ] ||
    record "$run" python main.py "${common[@]}" --output_dir "$OUT/$run" "$@" -- ${OVERRIDES:-}
}

fresh=(--problem_name "$PROBLEM" --model_path "$MODEL" --test_freq 0 --save_freq 1000 --budget $((STEPS * ANSWERS)))

for part in $PARTS; do
  case $part in
    train)
      first=(--problem_name "$PROBLEM" --model_path "$MODEL" --seed 1 --prompts 80 --epochs 3 --save_freq 5 --test_freq 10)
      if [ ! -d "$OUT/train/checkpoints/final" ]; then
        record train python main.py "${common[@]}" --output_dir "$OUT/train" "${first[@]}" -- trainer.total_training_steps=15 ${OVERRIDES:-} &&
          record train+resumed python main.py "${common[@]}" --output_dir "$OUT/train" "${first[@]}" --resume -- ${OVERRIDES:-} &&
          { python tests/gpu/check_run.py "$OUT/train" --steps 30 --rising ${CHECK:-} || failed=1; }
      fi ;;
    curriculum)
      training curriculum --problem_name "${NEXT_PROBLEM:-bactgrow}" --seed 1 --prompts 64 --epochs 1 --test_freq 0 \
        --model_path "$OUT/train/checkpoints/final" &&
        { python tests/gpu/check_run.py "$OUT/curriculum" --steps 8 || failed=1; } ;;
    none | puct | islands)
      flags=(--memory none --advantage grpo)
      [ "$part" = islands ] && flags=(--memory islands --advantage grpo)
      [ "$part" = puct ] && flags=(--memory puct --advantage entropic)
      for seed in $SEEDS; do training "$part-s$seed" "${fresh[@]}" --seed "$seed" "${flags[@]}" ${EXTRA:-}; done ;;
    lora)
      training lora "${fresh[@]}" --seed 1 --lora_rank 16 --budget $((6 * ANSWERS)) ;;
    two)
      training two "${fresh[@]}" --seed 1 --gpus 2 --budget $((8 * ANSWERS)) ;;
    chat)
      python tests/gpu/prompt_trial.py "$MODEL" "$OUT/prompts.jsonl" | tee "$OUT/prompts.txt"
      if [ ! -d "$OUT/chat/checkpoints/final" ]; then
        record chat python main.py --use_rl --trainer "${TRAINER:-auto}" --problem_name "$PROBLEM" --model_path "$MODEL" --epochs 10 \
          --batch_size 32 --learning_rate 1e-6 --rollout_n 5 --output_dir "$OUT/chat" ${EXTRA:-} ${OVERRIDES:+-- $OVERRIDES} &&
          { python tests/gpu/check_run.py "$OUT/chat" --steps 40 --vllm || failed=1; }
      fi ;;
    search)
      for seed in $SEEDS; do
        run=search-s$seed
        [ -f "$OUT/$run/result.json" ] ||
          record "$run" python main.py --proposer vllm --model_path "$MODEL" --problem_name "$PROBLEM" --seed "$seed" \
            --budget $((STEPS * ANSWERS)) --max_tokens 128 --gpu_memory_utilization 0.3 --log_path "$OUT/$run" \
            --sample_files false ${SEARCH_EXTRA:-}
      done ;;
    *) echo "unknown part $part" >&2; exit 2 ;;
  esac
done
python tests/gpu/table.py "$OUT" | tee "$OUT/table.txt"
exit $failed
