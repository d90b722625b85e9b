#!/usr/bin/env python3
"""The same as `od-eval train`."""

import sys

from od_eval import cli

if __name__ == "__main__":
    sys.exit(cli.run("train", sys.argv))
