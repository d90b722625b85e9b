#!/usr/bin/env python3
"""The same as `od-eval detect`."""

import sys

from od_eval import cli

if __name__ == "__main__":
    sys.exit(cli.run("detect", sys.argv))
