# Sourced by quickstart.sh and test.sh: makes .venv once, and again when setup.py changes.
#
#   source scripts/environment.sh [EXTRA]     e.g. `dev`
#
# Needs a Python 3.10, 3.11 or 3.12 with venv; PYTHON=/path/to/python3.11 chooses one.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; }

if [ -z "${PYTHON:-}" ]; then
  for candidate in python3 python3.12 python3.11 python3.10 python; do
    if supported "$candidate"; then PYTHON=$candidate; break; fi
  done
fi
if ! supported "${PYTHON:-python3}"; then
  echo "error: od_eval needs Python 3.10, 3.11 or 3.12 with venv (Debian: apt-get install python3-venv);" \
    "name one with PYTHON=/path/to/python3.11" >&2
  exit 1
fi

extra=${1:-}
installed=.venv/installed-${extra:-plain}-$(sha256sum setup.py | cut -c1-16)
if [ ! -e "$installed" ] || ! .venv/bin/python -c '' 2>/dev/null; then
  echo "Setting up .venv with $("$PYTHON" --version); this takes some minutes, once."
  .venv/bin/python -c '' 2>/dev/null || "$PYTHON" -m venv --clear .venv
  .venv/bin/python -m pip install -qq --upgrade pip  # errors only
  # Of what pip says, the largest downloads, which take longest; where it fails, everything.
  if ! .venv/bin/python -m pip install --editable ".${extra:+[$extra]}" 2>&1 | tee .venv/pip.log |
    sed -unE 's/^ *(Downloading|Using cached) (.*\([0-9]{3,}[.0-9]* MB\)).*/\1 \2/p
      s/^Installing collected packages.*/Installing all packages/p'; then
    cat .venv/pip.log >&2
    exit 1
  fi
  touch "$installed"
fi
