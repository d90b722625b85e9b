"""The training program as a user starts it, and what it leaves."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from read_events import written_scalars

REPOSITORY = Path(__file__).parents[1]


def command(config, overrides, model_dir, *flags):
    sets = [f"--set={override}" for override in overrides]
    program = [sys.executable, REPOSITORY / "scripts" / "model_main_tf2.py"]
    return [*program, f"--pipeline_config_path={config}", f"--model_dir={model_dir}", *sets, *flags]


def environment(**variables):
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **variables}


def run(*args, **variables):
    return subprocess.run(command(*args), env=environment(**variables), capture_output=True, text=True, check=False)


class Background:
    """A training in the background, whose output is waited for."""

    def __init__(self, *args, **variables):
        self.process = subprocess.Popen(
            command(*args), env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, pattern):
        """Reads lines until one matches, and returns the match."""
        for line in self.process.stdout:
            match = re.search(pattern, line)
            if match:
                return match
        pytest.fail(f"ended without printing {pattern!r}: {self.process.stderr.read()}")

    def stop(self, signal_number):
        self.process.send_signal(signal_number)
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors


def clusters(num_workers):
    """The TF_CONFIG of each worker of a cluster on this machine."""
    listeners = [socket.create_server(("localhost", 0)) for _ in range(num_workers)]
    addresses = ", ".join(f'"localhost:{listener.getsockname()[1]}"' for listener in listeners)
    for listener in listeners:
        listener.close()
    return [
        f'{{"cluster": {{"worker": [{addresses}]}}, "task": {{"type": "worker", "index": {index}}}}}'
        for index in range(num_workers)
    ]


def steps(run_dir):
    return [step for step, _ in written_scalars(run_dir)["Loss/total_loss"]]


def checkpointed_step(path):
    return int(tf.train.load_variable(str(path), "step/.ATTRIBUTES/VARIABLE_VALUE"))
