"""The `tf.distribute` strategies for training: which devices and machines to train on."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import tensorflow as tf

from od_eval import files
from od_eval.errors import ODEvalError
from od_eval.text import short

# Of the environment variable TF_CONFIG.
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


def default_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` over the GPUs of this machine if there are several, otherwise no distribution."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def multi_worker_strategy(num_workers: int) -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` over the workers that the environment variable `TF_CONFIG` lists.

    Raises:
      ODEvalError: `TF_CONFIG` is missing, is not as TensorFlow wants it, or lists another number of workers.
    """
    listed = _check_cluster(os.environ.get("TF_CONFIG", "{}"))
    if listed != num_workers:
        raise ODEvalError(
            f"num_workers is {num_workers}, but the environment variable TF_CONFIG lists {listed} workers; on each"
            f" machine set it like {_EXAMPLE}, with its own index."
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, tf.errors.OpError) as error:
        raise ODEvalError(
            f"the workers in the environment variable TF_CONFIG cannot be used: {files.reason(error)}; it looks like"
            f" {_EXAMPLE}."
        ) from error


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
