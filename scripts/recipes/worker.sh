#!/bin/bash
# What `fedctl pool work POOL -- CMD` does, by hand: ./worker.sh POOL CMD... gives CMD each item's data on stdin.
set -u
pool=$1
shift
said=$(mktemp -d)
trap 'rm -r "$said"' EXIT
while :; do
  code=0
  claimed=$(fedctl pool claim "$pool" --worker "$(hostname).$$" --lease 10m --wait "${WAIT:-30s}" --json) || code=$?
  case $code in
    0) ;;
    6) break ;;             # nothing came for that long
    7) sleep 5; continue ;; # the hub is away
    *) exit "$code" ;;
  esac
  id=$(jq -r '.[0].id' <<< "$claimed")
  FEDCTL_LEASE_ID=$(jq -r '.[0].lease_id' <<< "$claimed")
  export FEDCTL_LEASE_ID
  if jq -c '.[0].data' <<< "$claimed" | "$@" > "$said/out" 2> "$said/err"; then
    # What it printed is the result: JSON if it is one, else text, without the line's end; nothing is null.
    jq -s 'if length > 1 then error else .[0] end' "$said/out" > "$said/result" 2> /dev/null ||
      jq -Rs 'rtrimstr("\n")' "$said/out" > "$said/result"
    fedctl pool complete "$id" --result "@$said/result" -q
  else
    fedctl pool fail "$id" --error "@$said/err" -q
  fi || echo "$id: not told; it comes back when its lease ends" >&2
done
