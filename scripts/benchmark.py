#!/usr/bin/env python3
"""The same as `od-eval benchmark`."""

import sys

from od_eval import cli

if __name__ == "__main__":
    sys.exit(cli.run("benchmark", sys.argv))
