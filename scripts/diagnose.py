#!/usr/bin/env python3
"""The same as `od-eval diagnose`."""

import sys

from od_eval import cli

if __name__ == "__main__":
    sys.exit(cli.run("diagnose", sys.argv))
