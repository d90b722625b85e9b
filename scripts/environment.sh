# Sourced by quickstart.sh and test.sh: makes the environment $venv once, and again when setup.py changes.
#
#   source scripts/environment.sh [EXTRA] [TENSORFLOW] [BACKEND]     e.g. `dev`, `dev 2.21`, `dev "" jax`
#
# The environment is .venv with the TensorFlow that the Object Detection API's packages ask for, 2.20; on Python 3.13,
# which they do not install on, with 2.21. If TENSORFLOW is given it is .venv-tensorflow-TENSORFLOW.
# With BACKEND, `jax`, `torch` or `tensorflow`, it is $venv-keras-BACKEND, which has KerasHub and that package, and sees
# all that is in the former. (Of PyPI, torch has 5 GB; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives
# one for CPUs.)
# Needs a Python 3.10 to 3.13 with venv; PYTHON=/path/to/python3.11 chooses one.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; }

if [ -z "${PYTHON:-}" ]; then
  for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
    if supported "$candidate"; then PYTHON=$candidate; break; fi
  done
fi
if ! supported "${PYTHON:-python3}"; then
  echo "error: od_eval needs Python 3.10, 3.11, 3.12 or 3.13 with venv (Debian: apt-get install python3-venv);" \
    "name one with PYTHON=/path/to/python3.11" >&2
  exit 1
fi

extra=${1:-}
tensorflow=${2:-}
backend=${3:-}
venv=.venv${tensorflow:+-tensorflow-$tensorflow}
[ "$("$PYTHON" -c 'import sys; print(sys.version_info[1])')" -lt 13 ] || tensorflow=${tensorflow:-2.21}

# Of what pip says, the largest downloads, which take longest; where it fails, everything.
pip_install() {
  if ! $venv/bin/python -m pip install "$@" 2>&1 | tee $venv/pip.log |
    sed -unE 's/^ *(Downloading|Using cached) (.*\([0-9]{3,}[.0-9]* MB\)).*/\1 \2/p
      s/^Installing collected packages.*/Installing all packages/p'; then
    cat $venv/pip.log >&2
    exit 1
  fi
}

works() { $venv/bin/python -c '' 2>/dev/null; }

make_venv() {
  echo "Setting up $venv with $("$PYTHON" --version); this takes some minutes, once."
  works || "$PYTHON" -m venv --clear $venv
  $venv/bin/python -m pip install -qq --upgrade pip  # errors only
}

version=$(sha256sum setup.py | cut -c1-16)
installed=$venv/installed-${extra:-plain}-$version
if [ ! -e "$installed" ] || ! works; then
  make_venv
  if [ -z "$tensorflow" ]; then
    pip_install --editable ".${extra:+[$extra]}"
  else
    pip_install "tensorflow==$tensorflow.*"
    pip_install --no-deps --editable .
    $venv/bin/od-eval install_odapi
    if [ -n "$extra" ]; then
      mapfile -t requirements < <($venv/bin/python -c "
import importlib.metadata
for one in importlib.metadata.requires('od_eval'):
    if 'extra == \"$extra\"' in one:
        print(one.partition(';')[0])")
      pip_install "${requirements[@]}"
    fi
  fi
  touch "$installed"
fi

if [ -n "$backend" ]; then
  site_packages() { $venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
  packages=$(site_packages)
  PYTHON=$venv/bin/python
  venv=$venv-keras-$backend
  installed=$venv/installed-$version
  if [ ! -e "$installed" ] || ! works; then
    make_venv
    # TensorFlow and the rest, 4 GB, are not installed twice: their folder comes after this venv's own packages on
    # Python's path, where pip finds them, too.
    echo "$packages" > "$(site_packages)/others.pth"
    pip_install --editable ".[keras]" "$backend"
    touch "$installed"
  fi
fi
