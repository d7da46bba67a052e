# Sourced by scripts/test and scripts/demo: one virtual environment, installed anew when pyproject.toml changed.

python="${PYTHON:-python3}"
venv="${FEDCTL_VENV:-.venv}"

# prepare_environment [EXTRA]: makes $venv hold fedctl, editable, with what the extra names.
prepare_environment() {
  local extra="${1:-}" mark wanted
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "fedctl needs Python 3.11 or newer; name one: PYTHON=python3.12 $0" >&2
    exit 2
  fi
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  mark="$venv/.fedctl-installed"
  wanted="$(cat pyproject.toml; pwd; echo "$extra")"
  if [ "$(cat "$mark" 2>/dev/null)" != "$wanted" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}"
    printf '%s\n' "$wanted" >"$mark"
  fi
}
