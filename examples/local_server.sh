#!/usr/bin/env bash
# A search that asks a model behind a local server. Start one first, for example:
#   vllm serve Qwen/Qwen2.5-Coder-1.5B-Instruct        (port 8000)
#   ollama serve                                       (API_BASE=http://127.0.0.1:11434/v1)
# API_MODEL names the model; without it the server is asked which one it has.
set -euo pipefail
python -m llmsr run --proposer openai --api_base "${API_BASE:-http://127.0.0.1:8000/v1}" \
  ${API_MODEL:+--api_model "$API_MODEL"} --problem_name oscillator1 --budget "${BUDGET:-200}" \
  --workers "${WORKERS:-0}" --log_path "${OUT:-logs/local_server}"
