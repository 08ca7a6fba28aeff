#!/usr/bin/env bash
# Looks up every locked package in the public databases of known vulnerabilities.
# Exit code 0: none known; 1: some are; 3: the databases cannot be reached, so nothing is known.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! python -m pip_audit --version >/dev/null 2>&1; then
  echo "pip-audit is missing: pip install pip-audit" >&2
  exit 3
fi
code=0
for lock in requirements.lock requirements-torch.lock requirements-gpu.lock; do
  [ -f "$lock" ] || continue
  report=$(python -m pip_audit --disable-pip --require-hashes --progress-spinner off --timeout "${AUDIT_TIMEOUT:-15}" \
    -r "$lock" 2>&1)
  found=$?
  unknown=$(grep -c 'could not be audited' <<<"$report")
  printf '%s:\n' "$lock"
  grep -v 'could not be audited' <<<"$report" | tail -n "${AUDIT_LINES:-20}"
  if [ "$unknown" -gt 0 ]; then
    echo "$unknown packages are not known to the database that was reached: nothing is known about them"
    [ "$code" -eq 0 ] && code=3
  fi
  if [ "$found" -ne 0 ]; then
    if grep -qiE 'connection|resolve|timed out|ServiceError|Max retries|unreachable' <<<"$report"; then
      [ "$code" -eq 0 ] && code=3
    else
      code=1
    fi
  fi
done
exit "$code"
