# Sourced by the front doors: what the environment and the caller's folder say, as arguments of main.py.

CALLED_FROM=$PWD
arguments=()

# flag, value: only what was set, so that defaults live in one place
pass() {
  if [ -n "$2" ]; then arguments+=("$1" "$2"); fi
}

# a relative path that exists where the script was called from
from_here() {
  case "$1" in
    "" | /*) echo "$1" ;;
    *) if [ -e "$CALLED_FROM/$1" ]; then echo "$CALLED_FROM/$1"; else echo "$1"; fi ;;
  esac
}

# the caller's own arguments behind those of the environment, --config as a path that is found from here
pass_on() {
  local argument before=
  for argument in "$@"; do
    case "$argument" in
      --config=*) argument=--config=$(from_here "${argument#--config=}") ;;
      *) if [ "$before" = --config ]; then argument=$(from_here "$argument"); fi ;;
    esac
    arguments+=("$argument")
    before=$argument
  done
}
