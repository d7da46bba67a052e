#!/bin/sh
# JSON lines of a CI's log in, on stdin; what is known of a question out: ./pipeline.sh "why do builds hang" < log.jsonl
# A line: {"job": "api", "error": "...", "fix": "...", "passed": true, "branch": "main"}
set -eu

jq -c '{task: .job, input: .error, output: .fix, reward: (if .passed then 1 else 0 end), metadata: {branch: .branch}}' |
  fedctl memory store --batch |
  jq -r 'select(.ok | not) | "line \(.line): \(.error.message)"' >&2

fedctl memory query "$1" -k 3 --where branch=main --min-reward 0.5 --json |
  jq -r '.[] | "\(.task): \(.output)"'
