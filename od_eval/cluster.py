"""The processes that train one model together, under `MultiWorkerMirroredStrategy`, and what they tell each other.

    path = cluster.on_chief(strategy, checkpoints.save)        # the same on all workers, or the same error
    for batch in cluster.in_turn(strategy, own_batches): …     # on the chief, the batches of all workers

All workers must call these functions in the same order. With a single process they do without the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pickle
import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from od_eval.errors import ODEvalError, TemporaryError, describe

T = TypeVar("T")

# The group of these collective operations; `tf.distribute` counts its own from 1.
_GROUP = 2**20
# As TensorFlow pairs operations by number, these count alike on all workers.
_numbers = itertools.count(1)
# Of errors that tell of another process, not of this one.
_OTHER_IS_GONE = re.compile(
    r"Socket closed|stopped sending heartbeats|unhealthy|heartbeat timeout|Connection (reset|refused)|failed to connect"
    r"|GRPC error information|different incarnation|unexpected error on the network|CoordinationService/Heartbeat",
    re.IGNORECASE,
)
_TASK = re.compile(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)")


class LostWorker(TemporaryError):
    """Another process of the cluster has ended, or does not answer."""


@dataclasses.dataclass(frozen=True)
class _Raised:
    """What a worker sends in place of a value."""

    error: BaseException


class _End:
    """Sent by a worker that has no more items."""


class _Leaves:
    """Sent by a chief that wants no more items."""


def num_workers(strategy: Any) -> int:
    """The number of processes that train together under a strategy; None is no strategy."""
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return 1
    return getattr(strategy.extended, "_num_workers", 1)


def worker(strategy: Any) -> int:
    """The number of this process among them, counted from 0, which is the chief."""
    return getattr(strategy.extended, "_id_in_cluster", 0) if strategy is not None else 0


def addresses() -> dict[tuple[str, int], str]:
    """Type and index -> `host:port` of each worker in the environment variable `TF_CONFIG`, the chief first."""
    cluster = _tf_config().get("cluster", {})
    return {
        (kind, index): address for kind in ("chief", "worker") for index, address in enumerate(cluster.get(kind, []))
    }


def _tf_config() -> dict[str, Any]:
    """The environment variable; empty for a process that is alone, where nobody has looked whether it makes sense."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except ValueError:
        return {}
    return config if isinstance(config, dict) and isinstance(config.get("cluster"), dict) else {}


def gather(strategy: Any, value: T) -> list[T]:
    """The values of all workers, in their order; each must be one that can be pickled.

    They travel between the hosts' memories, not between GPUs.

    Raises:
      LostWorker: one of them is gone.
    """
    size = num_workers(strategy)
    if size == 1:
        return [value]
    import numpy as np

    data = pickle.dumps(value)
    (lengths,) = np.transpose(_all_gather(size, np.array([[len(data)]], np.int64)))
    padded = np.zeros([1, -(-int(lengths.max()) // 8)], np.int64)  # of the types that can be gathered, the largest
    padded.view(np.uint8)[0, : len(data)] = np.frombuffer(data, np.uint8)
    rows = _all_gather(size, padded).view(np.uint8)
    return [pickle.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def _all_gather(size: int, row: Any) -> Any:
    import tensorflow as tf
    from tensorflow.python.ops import collective_ops

    try:
        with tf.device("CPU:0"):
            gathered = collective_ops.all_gather_v2(
                tf.constant(row), size, _GROUP, next(_numbers), communication_hint="ring"
            )
            return gathered.numpy()
    except tf.errors.OpError as error:
        raise lost_worker(error) or error from error


def on_chief(strategy: Any, action: Callable[[], T], others: Callable[[], object] = lambda: None) -> T:
    """Does something in the chief only.

    Args:
      strategy: of the workers.
      action: what the chief does.
      others: what other workers do meanwhile.

    Returns:
      On every worker, what the action returns.

    Raises:
      LostWorker: a worker is gone.
      Exception: on every worker, what one of them has raised.
    """
    if num_workers(strategy) == 1:
        return action()
    message: Any
    try:
        message = action() if worker(strategy) == 0 else others()
    except LostWorker:
        raise
    except BaseException as error:
        message = _Raised(error)
    return _exchanged(strategy, message)[0]


def everywhere(strategy: Any, action: Callable[[], T]) -> T:
    """Does something on every worker; returns what it returns on this one.

    Raises:
      LostWorker: a worker is gone.
      Exception: on every worker, what one of them has raised.
    """
    results: list[T] = []
    on_chief(strategy, lambda: results.append(action()), others=lambda: results.append(action()))
    return results[0]


def in_turn(strategy: Any, items: Iterator[T]) -> Generator[T, None, None]:
    """The items of all workers: the first of each worker, then the second of each, and so on.

    Every worker must take all of them; only the chief is given any. A worker is at most one item ahead of the others.

    Args:
      strategy: of the workers.
      items: those of this worker.

    Raises:
      LostWorker: a worker is gone.
      Exception: on every worker, what the items of one of them have raised.
    """
    if num_workers(strategy) == 1:
        yield from items
        return
    is_chief = worker(strategy) == 0
    own: Any = None
    messages: list[Any] = [None]
    while not all(isinstance(message, _End) for message in (own, *messages)):
        if not isinstance(own, _End):
            try:
                own = next(items, _End())
            except BaseException as error:
                own = _Raised(error)
        # The chief has its own item, however large.
        messages = _exchanged(strategy, own if isinstance(own, _Raised | _End) or not is_chief else None)
        if isinstance(messages[0], _Leaves):
            return
        if is_chief:
            try:
                yield from (one for one in (own, *messages[1:]) if not isinstance(one, _End))
            except GeneratorExit:
                _exchanged(strategy, _Leaves())
                raise


def _exchanged(strategy: Any, message: Any) -> list[Any]:
    """The messages of all workers.

    Raises:
      Exception: that of this worker, or of the first that has one.
    """
    sent = _Raised(_sendable(message.error)) if isinstance(message, _Raised) else message
    messages = gather(strategy, sent)
    if isinstance(message, _Raised):
        raise message.error
    for number, other in enumerate(messages):
        if isinstance(other, _Raised):
            if type(other.error) is ODEvalError:
                raise ODEvalError(f"worker {number}: {other.error}")
            raise other.error
    return messages


def _sendable(error: BaseException) -> BaseException:
    """The error, or one that says the same and can be pickled."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return ODEvalError(describe(error))


@contextlib.contextmanager
def averaged(strategy: Any, variables: Iterable[Any]) -> Iterator[None]:
    """A context in which variables are read without asking other replicas; before it, those that differ are averaged.

    Each replica has statistics of batch normalization of its own, and reading one takes a collective operation, for
    which all workers must be at the same place: hundreds of them take seconds. Here all are averaged in one. To replace
    them by their mean does not change what the mean is later.

    Args:
      strategy: under which they were made; all its workers must enter.
      variables: of the model; those that are the same on all replicas are left alone.
    """
    if strategy is None or strategy.num_replicas_in_sync == 1:
        yield
        return
    import tensorflow as tf

    mean = tf.VariableAggregation.MEAN
    differing = [
        one
        for one in variables
        if getattr(one, "synchronization", None) == tf.VariableSynchronization.ON_READ and one._aggregation == mean
    ]

    def average() -> None:
        # In float64, the mean of equal numbers is the same number, whatever their number.
        own = tf.concat([tf.cast(tf.reshape(one, [-1]), tf.float64) for one in differing], axis=0)
        means = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, own)
        for one, part in zip(differing, tf.split(means, [one.shape.num_elements() for one in differing]), strict=True):
            one.assign(tf.cast(tf.reshape(part, one.shape), one.dtype))

    if differing:
        try:
            strategy.run(average)
        except tf.errors.OpError as error:
            raise lost_worker(error) or error from error
    for one in differing:
        one._aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    try:
        yield
    finally:
        for one in differing:
            one._aggregation = mean


def lost_worker(error: Any) -> LostWorker | None:
    """The sentence for an error of TensorFlow that tells of another process; None if it tells of something else.

    Args:
      error: a `tf.errors.OpError`.
    """
    message = re.sub(r"\{\{.*?\}\}", "", error.message)  # which name this process
    known = addresses()
    if len(known) < 2 or not _OTHER_IS_GONE.search(message):  # a file system may say the same of its server
        return None
    task = _tf_config()["task"]
    own = (task.get("type"), int(task.get("index", 0)))
    named = dict.fromkeys((kind, int(index)) for kind, index in _TASK.findall(message))
    gone = [one for one in named if one in known and one != own]
    gone = gone or [one for one in known if one != own and not answers(known[one])]
    who = ", ".join(f"{kind} {index} ({known[kind, index]})" for kind, index in gone) or "another worker"
    return LostWorker(
        f"{who} was lost: it has ended or does not answer; its own output says why. Start all workers again with the"
        " same command: they continue from the newest checkpoint."
    )


def answers(address: str, seconds: float = 1.0) -> bool:
    """Whether a process listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except OSError:
        return False
