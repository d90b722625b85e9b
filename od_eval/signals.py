"""SIGTERM and Ctrl-C while something is done that must not be left anywhere."""

from __future__ import annotations

import signal
import threading
import types
from typing import Any, TypeVar

Self = TypeVar("Self", bound="DeferredSignals")


class DeferredSignals:
    """A context in which SIGTERM and Ctrl-C wait until `raise_if_received` is called.

    A handler that raises does so wherever the program happens to be: while a process pool starts, which then cannot be
    shut down, or while an object is deleted, where Python ignores exceptions and the signal would be lost. A second
    signal does at once what it would have done outside. In a thread other than the main one, which gets no signals,
    the context does nothing.

        with DeferredSignals() as signals:
            for image in images:
                signals.raise_if_received()
                convert(image)

    Attributes:
      received: the number of the signal received, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self: Self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None:
            self._pass_on(number)
        self.received = number

    def raise_if_received(self) -> None:
        """Does what the signal would have done outside of this context, if one was received."""
        if self.received is not None:
            self._pass_on(self.received)

    def _pass_on(self, number: int) -> None:
        self.__exit__()
        signal.raise_signal(number)
