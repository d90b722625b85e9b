"""The `tf.distribute` strategies for training: which devices and machines to train on."""

from __future__ import annotations

import json
import os

import tensorflow as tf

from od_eval.errors import ODEvalError


def default_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` over the GPUs of this machine if there are several, otherwise no distribution."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def multi_worker_strategy(num_workers: int) -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` over the workers that the environment variable `TF_CONFIG` lists.

    Raises:
      ODEvalError: `TF_CONFIG` is missing, is not JSON, or lists another number of workers.
    """
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    except ValueError as error:
        raise ODEvalError(
            f"the environment variable TF_CONFIG is not JSON ({error}); it looks like {example}."
        ) from error
    listed = sum(len(cluster.get(kind, [])) for kind in ("chief", "worker"))
    if listed != num_workers:
        raise ODEvalError(
            f"num_workers is {num_workers}, but the environment variable TF_CONFIG lists {listed} workers; on each"
            f" machine set it like {example}, with its own index."
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def tpu_strategy(tpu_name: str | None) -> tf.distribute.Strategy:
    """`TPUStrategy` on the named Cloud TPU.

    Raises:
      ODEvalError: it cannot be reached.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu_name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ODEvalError(
            f"TPU {tpu_name!r} cannot be used: {str(error).splitlines()[0]}; correct tpu_name or leave out use_tpu."
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
