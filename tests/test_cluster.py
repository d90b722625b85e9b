"""What the processes of a cluster tell each other: run in children, of which each is a worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

from od_eval import cluster
from training_program import clusters


def environment(config):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CONFIG": config, "TF_USE_LEGACY_KERAS": "1"}


def start(scene, num_workers, of=None, timeout=60):
    """Starts a cluster in which every worker plays a scene, or only the workers `of` it."""
    return [
        subprocess.Popen(
            [sys.executable, __file__, scene, str(num_workers), str(timeout)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "TF_CONFIG": config,
                "TF_USE_LEGACY_KERAS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, config in enumerate(clusters(num_workers))
        if of is None or index in of
    ]


def play(scene, num_workers):
    """What each worker prints as its last line, as JSON."""
    outputs = [process.communicate(timeout=200) for process in start(scene, num_workers)]
    assert all(output for output, _ in outputs), outputs
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def test_three_workers_exchange_items_errors_and_variables():
    found = play("exchange", 3)
    chief, *others = found
    assert chief["gathered"] == [["worker", 0], ["worker", 1], ["worker", 2]] == others[0]["gathered"]
    # Worker 0 has three items, worker 1 has one, worker 2 has none.
    assert chief["in turn"] == [[0, 0], [1, 0], [0, 1], [0, 2]]
    assert [one["in turn"] for one in others] == [[], []]
    assert {one["done by the chief"] for one in found} == {"chief 0"}
    assert [one["error of worker 2"] for one in found] == [
        "ODEvalError worker 2: record 3 is broken.",
        "ODEvalError worker 2: record 3 is broken.",
        "ODEvalError record 3 is broken.",
    ]
    assert {one["error that cannot be sent"] for one in found[1:]} == {"ODEvalError worker 0: Unsendable: no"}
    assert {one["after a chief that left"] for one in found} == {"ok"}
    assert [one["averaged"] for one in found] == [[1.0, 2.0]] * 3  # the means of 0, 1, 2 and 1, 2, 3
    assert [one["mirrored"] for one in found] == [5.0] * 3
    assert [one["averaged twice"] for one in found] == [True] * 3


def test_a_worker_that_is_killed_is_named():
    waiting, _ = start("one is killed", 2)
    output, errors = waiting.communicate(timeout=200)
    assert "LostWorker worker 1 (localhost:" in output, errors
    assert "status 75" in output


@pytest.fixture
def hosts():
    """Two hosts with an address each: network namespaces, and a cable between them."""

    def ip(*arguments, check=True):
        return subprocess.run(["ip", *map(str, arguments)], check=check, capture_output=True, text=True)

    names = [f"od-eval-{os.getpid()}-{index}" for index in range(2)]
    if not shutil.which("ip") or ip("netns", "add", names[0], check=False).returncode != 0:
        pytest.skip("network namespaces need Linux, the program ip and root")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for index, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{index + 1}/24", "dev", "cable")
            for device in ("cable", "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield types.SimpleNamespace(
            commands=[["ip", "netns", "exec", name] for name in names],
            addresses=["10.77.0.1:2222", "10.77.0.2:2222"],
            cut=lambda: ip("-n", names[1], "link", "set", "cable", "down"),
        )
    finally:
        for name in names:
            ip("netns", "delete", name, check=False)


def test_hosts_whose_network_is_cut_name_each_other(hosts):
    workers = [
        subprocess.Popen(
            [*command, sys.executable, __file__, "one waits", "2", "60"],
            env=environment(
                json.dumps({"cluster": {"worker": hosts.addresses}, "task": {"type": "worker", "index": index}})
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(hosts.commands)
    ]
    try:
        assert "together\n" in iter(workers[0].stdout.readline, ""), workers[0].communicate()
        hosts.cut()
        outputs = [worker.communicate(timeout=100) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for index, (output, errors) in enumerate(outputs):
        other = 1 - index
        assert f"LostWorker worker {other} ({hosts.addresses[other]}) was lost" in output, (output, errors)
        assert "status 75" in output


def test_a_worker_whose_peers_never_come_names_them():
    (alone,) = start("exchange", 3, of=[1], timeout=2)
    _, errors = alone.communicate(timeout=100)
    message = errors.splitlines()[-1]
    assert "after 2 seconds of cluster_timeout, 2 of 3 workers have not started: worker 0 (localhost:" in message
    assert "worker 2 (localhost:" in message


def test_sigterm_ends_a_worker_that_waits():
    (alone,) = start("exchange", 2, of=[0])
    while "waits" not in alone.stdout.readline():
        pass
    time.sleep(0.5)
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(timeout=20) == 143


def test_a_port_that_another_process_has_is_told():
    import socket

    (config, _) = clusters(2)
    port = int(json.loads(config)["cluster"]["worker"][0].rpartition(":")[2])
    with socket.create_server(("", port)):
        process = subprocess.run(
            [sys.executable, __file__, "exchange", "2", "5"],
            env=environment(config),
            capture_output=True,
            text=True,
            check=False,
        )
    assert f"another process of this machine listens at localhost:{port}" in process.stderr.splitlines()[-1]


def test_an_error_of_a_file_system_is_not_taken_for_a_lost_worker(monkeypatch):
    error = types.SimpleNamespace(message="Connection reset by peer while reading gs://bucket/train")
    for config in ("", "garbage", "5", '{"cluster": 5}', '{"cluster": {"worker": ["a:1"]}}'):
        monkeypatch.setenv("TF_CONFIG", config)
        assert cluster.lost_worker(error) is None
    monkeypatch.setenv("TF_CONFIG", clusters(2)[0])
    assert "worker 1 (localhost:" in str(cluster.lost_worker(error))  # which does not listen
    other = types.SimpleNamespace(message="OOM when allocating tensor")
    assert cluster.lost_worker(other) is None


def test_one_process_does_without_others():
    assert cluster.gather(None, 1) == [1]
    assert cluster.on_chief(None, lambda: 2) == 2
    assert cluster.everywhere(None, lambda: 3) == 3
    assert list(cluster.in_turn(None, iter([4, 5]))) == [4, 5]
    with cluster.averaged(None, []), pytest.raises(ZeroDivisionError):
        cluster.on_chief(None, lambda: 1 / 0)


# ---- In a child -----------------------------------------------------------------------------------------------------


class Unsendable(Exception):
    def __init__(self, a, b):
        super().__init__(a)


def main(scene, num_workers, timeout):
    import tensorflow as tf

    from od_eval import ODEvalError
    from od_eval.training import strategies

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the programs do; it waits for C++ to return
    print("waits", flush=True)
    strategy = strategies.multi_worker_strategy(int(num_workers), float(timeout))
    own = cluster.worker(strategy)
    if scene in ("one is killed", "one waits"):
        cluster.gather(strategy, 1)
        print("together", flush=True)
        if own == 1 and scene == "one is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            for _ in range(1000):
                cluster.gather(strategy, 1)
                time.sleep(0.1)
        except cluster.LostWorker as error:
            print(type(error).__name__, error, "status", error.exit_status, flush=True)
        os._exit(0)  # TensorFlow waits for the other at the end of the process

    def error_of(action):
        try:
            action()
        except Exception as error:
            return f"{type(error).__name__} {error}"

    def items(number, broken=False):
        for index in range(number):
            yield own, index
        if broken and own == 2:
            raise ODEvalError("record 3 is broken.")

    def unsendable():
        raise Unsendable("no", 1)

    found = {
        "gathered": cluster.gather(strategy, ("worker", own)),
        "in turn": list(cluster.in_turn(strategy, items((3, 1, 0)[own]))),
        "done by the chief": cluster.on_chief(strategy, lambda: f"chief {own}"),
        "error of worker 2": error_of(lambda: list(cluster.in_turn(strategy, items(1, broken=True)))),
        "error that cannot be sent": error_of(lambda: cluster.on_chief(strategy, unsendable)),
    }
    for _ in cluster.in_turn(strategy, items(5)):
        break
    found["after a chief that left"] = cluster.on_chief(strategy, lambda: "ok")
    with strategy.scope():
        differing = [
            tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for _ in range(2)
        ]
        mirrored = tf.Variable(5.0)

    def set_own():
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        for index, variable in enumerate(differing):
            variable.assign(replica + index)

    strategy.run(set_own)
    with cluster.averaged(strategy, [*differing, mirrored]):
        if own == 0:  # nobody else needs to be there
            assert [float(one.numpy()) for one in differing] == [1.0, 2.0]
        found["averaged"] = [float(one.numpy()) for one in differing]
        found["mirrored"] = float(mirrored.numpy())

    def set_third():
        differing[0].assign(1 / 3)

    strategy.run(set_third)
    before = differing[0].values[0].numpy()
    with cluster.averaged(strategy, differing):
        found["averaged twice"] = bool(differing[0].numpy() == before)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
