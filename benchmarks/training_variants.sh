#!/usr/bin/env bash
# training_variants.sh OUT: short runs of the local trainer that differ in one switch, then a table of them all.
# PROBLEMS, SEEDS, VARIANTS and BUDGET (answers) choose; a run that is done is skipped. About 75 CPU seconds a run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
for seed in ${SEEDS:-0 1}; do
  for problem in ${PROBLEMS:-oscillator1 bactgrow}; do
    for variant in ${VARIANTS:-none islands top puct entropic novelty kl0.001 kl0.01}; do
      case $variant in
        none | islands | top | puct) flags=(--memory "$variant") ;;
        entropic | rank | best_of_group | drgrpo | max_at_k) flags=(--memory puct --advantage "$variant") ;;
        novelty) flags=(--memory puct --novelty) ;;
        kl*) flags=(--memory puct --kl_coef "${variant#kl}") ;;  # 0 is the row puct
        *) echo "unknown variant $variant" >&2 && exit 2 ;;
      esac
      run=$OUT/$problem-$variant-s$seed
      [ -d "$run/checkpoints/final" ] && continue
      OMP_NUM_THREADS=1 python main.py --use_rl --trainer local --problem_name "$problem" --seed "$seed" --output_dir "$run" \
        --batch_size 6 --rollout_n 8 --prompts 18 --budget "${BUDGET:-576}" --workers 1 --validation_prompts 1 \
        --test_freq 0 --save_freq 1000 "${flags[@]}" >"$run.log" 2>&1 || { tail -n 3 "$run.log" >&2; exit 1; }
    done
  done
done
python tests/gpu/table.py "$OUT" | tee "$OUT/table.txt"
