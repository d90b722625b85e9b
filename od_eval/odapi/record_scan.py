"""Reads all records of a config's input readers beside the training, and counts the objects that are lost from them."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from object_detection.protos import input_reader_pb2

from od_eval import files
from od_eval.findings.finding import Finding
from od_eval.findings.survey import Progress, reported
from od_eval.label_map import read_label_map
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_contents import BrokenRecord, Classes, Loss, losses, parse
from od_eval.odapi.records import count, input_files, serialized_records
from od_eval.text import did_you_mean, quoted

# Before the first step: long enough for some thousand records, short beside the tracing that follows.
_SECONDS_BEFORE_TRAINING = 1.5
_BECOME = {
    "dropped": "are dropped",
    "mistaken": "would become background or another class",
    "unnamed": "are trained but not evaluated",
}


@dataclasses.dataclass
class _Tally:
    """What was found in the records of one reader so far."""

    field: str
    classes: Classes
    num_records: int = 0
    num_objects: int = 0
    num_lost: Counter[Loss] = dataclasses.field(default_factory=Counter)
    first: dict[Loss, str] = dataclasses.field(default_factory=dict)
    seen: set[str] = dataclasses.field(default_factory=set)
    broken: str = ""
    is_complete: bool = False

    def has_error(self) -> bool:
        """Whether the records so far are reason enough not to train on them."""
        return bool(self.broken) or any(loss.how == "mistaken" for loss in list(self.num_lost))

    def findings(self) -> Iterator[Finding]:
        """Errors first."""
        name = f"{self.field}.tf_record_input_reader.input_path"
        if self.broken:
            yield Finding(
                "broken_record", "error", "", self.broken, "create the file again or remove the record", field=name
            )
        records = f"{self.num_records} records" if self.is_complete else f"its first {self.num_records} records"
        all_lost = self.is_complete and self.num_objects > 0 and self.num_lost.total() == self.num_objects
        for loss, number in sorted(list(self.num_lost.items()), key=lambda item: item[0].how != "mistaken"):
            yield Finding(
                {"dropped": "objects_dropped", "mistaken": "objects_mistaken", "unnamed": "objects_unnamed"}[loss.how],
                "error" if all_lost or loss.how == "mistaken" else "warning",
                self.field,
                f"{number} of {self.num_objects} objects in {records} {_BECOME[loss.how]}: {loss.why}"
                f" (first: {self.first[loss]})",
                self._remedy(loss),
                cause="and no object is left" if all_lost else "",
                field=name,
                evidence={"lost": number, "objects": self.num_objects, "records": self.num_records},
            )

    def _remedy(self, loss: Loss) -> str:
        if not loss.text or self.classes.ids is None:
            return "correct the records or the label map"
        similar = did_you_mean(loss.text, self.classes.ids) or did_you_mean(
            loss.text.casefold(), [name for name in self.classes.ids if name.casefold() == loss.text.casefold()]
        )
        if similar:
            return f"correct the label map or the records{similar.removesuffix('?')}"
        without = [name for name in self.classes.ids if name not in self.seen]
        hint = f", where {quoted(without[:5])} has no object" if without and self.is_complete else ""
        return f"add the class to the label map{hint}, or leave it out on purpose"


class RecordScan:
    """Counts what is lost of the data that a training reads: beside it, or before.

        scan = RecordScan(pipeline, {"train_input_reader": pipeline.config.train_input_reader})
        scan.begin()       # the first records; the others in a thread
        …
        scan.finish()

    Sequence examples are not read.

    Args:
      pipeline: its label maps and number of classes say what can be learned.
      readers: name in messages -> input reader. Their files and label maps are there.
    """

    def __init__(self, pipeline: Pipeline, readers: dict[str, input_reader_pb2.InputReader]):
        self._readers = [
            (_Tally(field, classes_of(reader, pipeline.num_classes)), reader)
            for field, reader in readers.items()
            if reader.input_type != input_reader_pb2.InputType.Value("TF_SEQUENCE_EXAMPLE")
        ]
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, seconds: float = _SECONDS_BEFORE_TRAINING) -> None:
        """Reads the first records for at most so long; a thread goes on with the others."""
        readings = [_read(tally, reader) for tally, reader in self._readers]
        for reading in readings:
            end = time.monotonic() + seconds / len(readings)
            for _ in reading:
                if time.monotonic() > end:
                    break
        if not all(tally.is_complete or tally.broken for tally, _ in self._readers):
            self._thread = threading.Thread(target=self._go_on, args=(readings,), daemon=True)
            self._thread.start()

    def _go_on(self, readings: Sequence[Iterator[None]]) -> None:
        for reading in readings:
            for _ in reading:
                if self._stopped.is_set():
                    return

    def read(self, max_records: int | None = None, progress: Progress | None = None) -> None:
        """Reads the records, instead of `begin` and `finish`.

        Args:
          max_records: of each reader, no more than so many; by default all.
          progress: called about twice a second with the number of records so far and of all, which may be None.
        """
        readings = itertools.chain.from_iterable(
            itertools.islice(_read(tally, reader), max_records) for tally, reader in self._readers
        )
        numbers = [count(reader) for _, reader in self._readers]
        known = [number for number in numbers if number is not None]
        total = sum(min(number, max_records or number) for number in known) if len(known) == len(numbers) else None
        for _ in reported(readings, progress, total):
            pass

    def is_running(self) -> bool:
        """Whether there are records that were not read yet."""
        return self._thread is not None and self._thread.is_alive()

    def num_records(self) -> int:
        """The number of records that were read so far."""
        return sum(tally.num_records for tally, _ in self._readers)

    def finish(self) -> None:
        """Ends the reading, whether all was read or not."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def has_error(self) -> bool:
        """Whether an error was found so far; takes no time, so that it can be asked at every step."""
        return any(tally.has_error() for tally, _ in self._readers)

    def findings(self) -> list[Finding]:
        """What was found so far: errors and warnings, the first ones first."""
        return [finding for tally, _ in self._readers for finding in tally.findings()]


def _read(tally: _Tally, reader: input_reader_pb2.InputReader) -> Iterator[None]:
    """Adds the records of a reader to its tally, one at each step."""
    for path in input_files(reader):
        number = 0
        try:
            for serialized in serialized_records(path):
                example = parse(serialized)
                for loss in losses(example, tally.classes):
                    tally.num_objects += 1
                    if loss is not None:
                        # Before it is counted, as another thread asks for the first of all that is counted.
                        tally.first.setdefault(loss, f"record {number} of '{path}'")
                        tally.num_lost[loss] += 1
                tally.seen.update(
                    text.decode("utf-8", "replace")
                    for text in example.features.feature["image/object/class/text"].bytes_list.value
                )
                tally.num_records += 1
                number += 1
                yield
        except BrokenRecord as error:
            tally.broken = f"record {number} of '{path}' {error}"
            return
        except EOFError:
            tally.broken = f"'{path}' is truncated or corrupt at record {number}"
            return
        except OSError as error:
            tally.broken = f"'{path}' cannot be read ({files.reason(error)})"
            return
    tally.is_complete = True


def classes_of(reader: input_reader_pb2.InputReader, num_classes: int) -> Classes:
    """How an input reader tells classes, of a model with so many."""
    if not reader.label_map_path:
        return Classes(None, num_classes)
    categories = read_label_map(reader.label_map_path)
    ids = {name: one.id for one in categories for name in (one.name, one.display_name) if name}
    return Classes(ids, num_classes, reader.label_map_path)
