"""SIGTERM and Ctrl-C during training: finish the current steps, save a checkpoint, then stop."""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from od_eval import cluster
from od_eval.callbacks.base import Callback, strategy_of
from od_eval.signals import DeferredSignals

T = TypeVar("T")


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C was received.

    Attributes:
      exit_status: 128 + the signal's number, as in shells.
      at_once: nothing can be saved: it came before the first execution had ended, or for the second time.
    """

    def __init__(self, signal_number: int, at_once: bool):
        self.exit_status = 128 + signal_number
        self.at_once = at_once
        super().__init__(signal.Signals(signal_number).name)

    def __reduce__(self) -> Any:  # another worker of the cluster stops for the same reason
        return Interrupted, (self.exit_status - 128, self.at_once)


class StopSignals(DeferredSignals):
    """A context in which SIGTERM and Ctrl-C raise `Interrupted` between two executions.

    A second signal raises it at once. With several workers, all stop after the same execution, whichever of them
    received the signal.

        with StopSignals() as signals:
            model.fit(dataset, callbacks=[signals.callback()])

    Attributes:
      received: the number of the signal received, or None.
      can_finish: whether a step has been done, so that there is something to save.
    """

    def __init__(self) -> None:
        super().__init__()
        self.can_finish = False

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None or not self.can_finish:
            raise Interrupted(number, at_once=True)
        self.received = number
        print("Stopping after the steps under way …", file=sys.stderr, flush=True)

    def callback(self) -> StopWhenAsked:
        """The callback that ends `fit`; it must come before those that evaluate at the end of an epoch."""
        return StopWhenAsked(self)

    def interruptible(self, batches: Iterable[T]) -> Iterable[T]:
        """The batches of an evaluation, between which it can be interrupted."""
        return _Interruptible(batches, self)

    def raise_if_received(self) -> None:
        """Raises `Interrupted` if a signal was received."""
        if self.received is not None:
            raise Interrupted(self.received, at_once=False)


class StopWhenAsked(Callback):
    """Ends `fit` after the current steps when a signal was received; created by `StopSignals.callback`."""

    def __init__(self, signals: StopSignals):
        super().__init__()
        self._signals = signals

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._signals.can_finish = True  # before the first step there is nothing to save
        stop = self._signals.received is not None
        if cluster.num_workers(strategy_of(self.model)) > 1:
            # Based only on what all workers know: a signal that comes meanwhile counts at the next execution.
            stop = _any_worker(self.model.distribute_strategy, stop)
        if stop:
            self._signals.received = self._signals.received or signal.SIGTERM
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.model.stop_training:
            self._signals.raise_if_received()


class _Interruptible(Iterable[T]):
    def __init__(self, batches: Iterable[T], signals: StopSignals):
        self._batches = batches
        self._signals = signals

    def __iter__(self) -> Iterator[T]:
        for batch in self._batches:
            self._signals.raise_if_received()
            yield batch


def _any_worker(strategy: Any, value: bool) -> bool:
    """Whether `value` is true on any worker of a `tf.distribute` strategy; all of them must call this."""
    import tensorflow as tf

    def count() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(int(value)))

    return int(strategy.experimental_local_results(strategy.run(count))[0]) > 0
