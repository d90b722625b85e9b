"""What orbit's controller reports while it trains and evaluates, handed to whoever writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orbit


class Summaries(orbit.utils.SummaryManagerInterface):
    """A run of orbit's controller.

    Args:
      writer: returns the `tf.summary.SummaryWriter` of the run, for summaries that the model itself writes.
      write: is given name -> value of what the controller reports. By default nothing is done with it.
    """

    def __init__(self, writer: Callable[[], Any], write: Callable[[Mapping[str, Any]], None] = lambda reported: None):
        self._writer = writer
        self._write = write

    def summary_writer(self, relative_path: str = "") -> Any:
        return self._writer()

    def write_summaries(self, summary_dict: Mapping[str, Any]) -> None:
        self._write(summary_dict)

    def flush(self) -> None:
        self._writer().flush()
