"""The `tf.distribute` strategies for training: which devices and machines to train on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from od_eval import cluster, files
from od_eval.errors import ODEvalError, TemporaryError
from od_eval.text import short, some

# Between two lines about workers that are not there.
_SECONDS_BETWEEN_LINES = 10

# Of the environment variable TF_CONFIG.
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


def default_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` over the GPUs of this machine if there are several, otherwise no distribution."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def multi_worker_strategy(num_workers: int, timeout: float = 3600) -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` over the workers that the environment variable `TF_CONFIG` lists.

    Args:
      num_workers: their number.
      timeout: seconds to wait until all of them have started.

    Raises:
      ODEvalError: `TF_CONFIG` is missing, is not as TensorFlow wants it, or lists another number of workers.
      TemporaryError: some have not started in that time; they are named.
    """
    listed = _check_cluster(os.environ.get("TF_CONFIG", "{}"))
    if listed != num_workers:
        raise ODEvalError(
            f"num_workers is {num_workers}, but the environment variable TF_CONFIG lists {listed} workers; on each"
            f" machine set it like {_EXAMPLE}, with its own index."
        )
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    _wait_for_others((task["type"], int(task["index"])), timeout)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        raise cluster.lost_worker(error) or TemporaryError(
            f"the workers cannot begin together: {files.reason(error)}; start all of them again."
        ) from error
    except (ValueError, tf.errors.OpError) as error:
        raise ODEvalError(
            f"the workers in the environment variable TF_CONFIG cannot be used: {files.reason(error)}; it looks like"
            f" {_EXAMPLE}."
        ) from error


def _wait_for_others(own: tuple[str, int], timeout: float) -> None:
    """Waits until a process listens at the address of each worker. TensorFlow would do so deaf to signals, and silent.

    Args:
      own: type and index of this worker.
      timeout: seconds.

    Raises:
      TemporaryError: after that time some do not listen, or another process does at the address of this one.
    """
    addresses = cluster.addresses()
    missing = {one: address for one, address in addresses.items() if one != own}
    began = told = time.monotonic()
    with _listening_at(addresses[own]):
        while True:
            missing = {one: address for one, address in missing.items() if not cluster.answers(address)}
            if not missing:
                return
            names = some([f"{kind} {index} ({address})" for (kind, index), address in missing.items()], 5)
            if time.monotonic() - began >= timeout:
                raise TemporaryError(
                    f"after {timeout:g} seconds of cluster_timeout, {len(missing)} of {len(addresses)} workers have not"
                    f" started: {names}; look at their output, and whether this machine can reach these addresses."
                )
            if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                print(f"Waiting for {names} …", file=sys.stderr, flush=True)
            time.sleep(0.2)


@contextlib.contextmanager
def _listening_at(address: str) -> Iterator[None]:
    """Others see that this worker has started; TensorFlow's server will listen at the same port."""
    port = int(address.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        else:
            listener = socket.create_server(("", port), backlog=1024)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ODEvalError(
                f"this worker cannot listen at port {port} of TF_CONFIG: {files.reason(error)}."
            ) from error
        raise TemporaryError(
            f"another process of this machine listens at {address}, the address of this worker in TF_CONFIG: it may be"
            " one of an earlier start; end it, or choose another port."
        ) from error
    with listener:
        yield


def _check_cluster(text: str) -> int:
    """The number of workers in the environment variable `TF_CONFIG`.

    Raises:
      ODEvalError: it is not as TensorFlow wants it.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong_cluster(f"is not JSON ({error})") from error
    cluster = config.get("cluster", {}) if isinstance(config, dict) else None
    if not isinstance(cluster, dict):
        raise _wrong_cluster("has no 'cluster' with lists of addresses")
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list):
            raise _wrong_cluster(f"has no list of addresses for '{kind}'")
        for address in addresses:
            if not _is_address(address):
                raise _wrong_cluster(f"has the address {short(address)} for '{kind}', which is not host:port")
    task = config.get("task", {})
    if cluster:
        kind, index = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
        if not isinstance(kind, str) or kind not in cluster:
            raise _wrong_cluster(f"has the task type {short(kind)}, which is not in its cluster ({', '.join(cluster)})")
        if not re.fullmatch(r"\d{1,6}", str(index)) or int(str(index)) >= len(cluster[kind]):
            raise _wrong_cluster(f"has the task index {short(index)}, and {len(cluster[kind])} of '{kind}'")
    return sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))


def _is_address(value: Any) -> bool:
    """Whether a value is `host:port`."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return re.fullmatch(r"[^\s:]+|\[\S+\]", host) is not None and port.isdecimal() and 0 < int(port[:6]) < 2**16


def _wrong_cluster(what: str) -> ODEvalError:
    return ODEvalError(f"the environment variable TF_CONFIG {what}; it looks like {_EXAMPLE}.")


def tpu_strategy(tpu_name: str | None) -> tf.distribute.Strategy:
    """`TPUStrategy` on the named Cloud TPU.

    Raises:
      ODEvalError: it cannot be reached.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu_name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, NotImplementedError, OSError, tf.errors.OpError) as error:
        raise ODEvalError(
            f"no TPU can be used under the name {tpu_name!r}: {files.reason(error)}; set tpu_name=NAME, or"
            " use_tpu=false."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def has_accelerator() -> bool:
    """Whether TensorFlow finds a GPU or a TPU."""
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def devices(strategy: tf.distribute.Strategy) -> str:
    """A description of the devices of a strategy."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        names = {tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus}
        devices = f"{len(gpus)} × {', '.join(sorted(names))}"
    else:
        devices = f"{os.cpu_count()} CPU cores"
    replicas = strategy.num_replicas_in_sync
    return f"{devices}, {replicas} replicas" if replicas > 1 else devices
