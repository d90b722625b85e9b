#!/usr/bin/env bash
# Runs the tests in an environment of their own (.venv), which it sets up the first time.
#
#   scripts/test.sh                      the default suite
#   scripts/test.sh -m slow              what takes longer
#   scripts/test.sh tests/data -x        anything else pytest understands
#   scripts/test.sh --tensorflow=2.21 …  first: the same in another environment, with this TensorFlow
#   scripts/test.sh --backend=jax …      first: the tests of callbacks with Keras 3 on this backend (jax, torch,
#                                        tensorflow) and of KerasHub, in an environment that has both
if [[ ${1:-} == --backend=* ]]; then
  export KERAS_BACKEND=${1#*=} TF_USE_LEGACY_KERAS=0
  shift
  case $KERAS_BACKEND in
    jax | torch | tensorflow) ;;
    *) echo "error: --backend=$KERAS_BACKEND is none of jax, torch, tensorflow" >&2 && exit 2 ;;
  esac
  source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev "" "$KERAS_BACKEND"
  exec $venv/bin/python -m pytest tests/callbacks/test_keras3_*.py tests/test_segmentation_losses.py "$@"
fi
tensorflow=
if [[ ${1:-} == --tensorflow=* ]]; then
  tensorflow=${1#*=}
  shift
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev $tensorflow

# With another TensorFlow than the Object Detection API's packages pin, they are in conflict on purpose.
[ -n "$tensorflow" ] || $venv/bin/python -m pip check
$venv/bin/ruff check .
$venv/bin/ruff format --check .
$venv/bin/mypy
case " $* " in
  *" -m "*) ;; # one process: some of the slow tests need 12 GB
  # Two, as building a graph keeps one core busy; the tests of a file stay together and share what they made.
  *) set -- -m "not slow" --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@" ;;
esac
exec $venv/bin/python -m pytest "$@"
