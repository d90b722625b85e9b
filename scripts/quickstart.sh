#!/usr/bin/env bash
# From nothing to curves: an environment (.venv), images of drawn shapes, a detector trained on them.
#
# Everything it makes lies in .venv/ and quickstart/. Run again, it finds what is there and does nothing twice.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec $venv/bin/od-eval quickstart
