"""The manifests for schedulers: their syntax, and what the programs are started with."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def stand_ins(tmp_path):
    """A folder of programs that stand in for those of Slurm, and for `od-eval`, which prints what it is given."""

    def write(name, *lines):
        (tmp_path / name).write_text("\n".join(["#!/usr/bin/env bash", *lines]) + "\n")
        (tmp_path / name).chmod(0o755)

    write("od-eval", 'echo "$TF_CONFIG" | tr -d "\\n"; echo; echo "$@"')
    write(
        "scontrol",
        'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; else echo "requeued" "$@"; fi',
    )
    write(
        "srun",
        "[ ! -e status ] || exit $(cat status)",
        "shift",
        'for number in 0 1; do SLURM_PROCID=$number SLURM_NTASKS=2 "$@"; done',
    )
    return tmp_path


def run(folder, command, **variables):
    return subprocess.run(
        command,
        env={"PATH": f"{folder}:{os.environ['PATH']}", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_slurm_starts_a_worker_on_each_node(stand_ins):
    assert run(stand_ins, ["bash", "-n", EXAMPLES / "slurm.sh"]).returncode == 0
    started = run(stand_ins, ["bash", EXAMPLES / "slurm.sh"], SLURM_JOB_ID="12345", SLURM_JOB_NODELIST="node[1-2]")
    assert started.returncode == 0, started.stderr
    first, flags, second, _ = started.stdout.splitlines()
    cluster = {"worker": ["node1:22345", "node2:22345"]}
    assert json.loads(first) == {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    assert json.loads(second)["task"]["index"] == 1
    assert flags.startswith("train --num_workers=2 --cluster_timeout=1800 --pipeline_config_path=")


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(75, "", True), (137, "3", True), (143, "19", True), (75, "20", False), (1, "", False), (0, "", False)],
)
def test_slurm_starts_again_what_that_mends(stand_ins, status, restarts, again):
    (stand_ins / "status").write_text(str(status))
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "x"} | (
        {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    )
    ended = run(stand_ins, ["bash", EXAMPLES / "slurm.sh"], **variables)
    assert ended.returncode == status
    assert ("requeued requeue 7" in ended.stdout) == again


def test_the_jobset_starts_workers_that_find_each_other(stand_ins):
    manifest = yaml.safe_load((EXAMPLES / "jobset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    (job,) = spec["replicatedJobs"]
    assert job["template"]["spec"]["completionMode"] == "Indexed"
    assert 75 not in job["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    num_workers = job["template"]["spec"]["completions"]
    assert num_workers == job["template"]["spec"]["parallelism"]
    started = run(stand_ins, container["command"], JOB_COMPLETION_INDEX="1")
    config, flags = started.stdout.splitlines()
    hosts = [f"{name}-{job['name']}-0-{index}.{spec['network']['subdomain']}:2222" for index in range(num_workers)]
    assert json.loads(config) == {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": 1}}
    assert f"--num_workers={num_workers} " in flags
