"""Trains with `od-eval train` on the machines of a Ray cluster, and goes on when one of them is lost.

    ray start --head                                  # on one machine, and `ray start --address=…` on the others
    python examples/ray_train.py --num_workers=2 --pipeline_config_path=pipeline.config --model_dir=/shared/runs/a

What follows --num_workers are the flags of `od-eval train`; model_dir, config and records must be at the same paths on
all machines. Ray chooses these and sets TF_CONFIG; each worker runs the program as it is. If a worker is lost, the
others end with status 75, Ray starts the group again, and it continues from the newest checkpoint.

Needs `pip install "od_eval[ray]" "ray[train]"`.
"""

import argparse
import os
import subprocess
import sys

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

MOST_FAILURES = 20


def train(config: dict) -> None:
    """What a worker of the group does."""
    program = [sys.executable, "-c", "from od_eval.cli import main; main()", "train"]
    command = [*program, f"--num_workers={config['num_workers']}", *config["flags"]]
    process = subprocess.Popen(command, env=os.environ)
    try:
        status = process.wait()
    finally:  # Ray ends a worker whose group is started again
        process.terminate()
    if status:
        raise RuntimeError(f"od-eval train ended with status {status}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_workers", type=int, required=True)
    parser.add_argument("--use_gpu", action="store_true")
    parser.add_argument("--storage_path", default="/tmp/ray_train", help="for Ray's own records of the run")
    arguments, flags = parser.parse_known_args()
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"))
    TensorflowTrainer(
        train,
        train_loop_config={"num_workers": arguments.num_workers, "flags": flags},
        scaling_config=ScalingConfig(num_workers=arguments.num_workers, use_gpu=arguments.use_gpu),
        run_config=RunConfig(
            storage_path=arguments.storage_path, failure_config=FailureConfig(max_failures=MOST_FAILURES)
        ),
    ).fit()


if __name__ == "__main__":
    main()
