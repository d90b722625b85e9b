"""Reads all records of a config's input readers beside the training, and counts the objects that are lost from them."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from object_detection.protos import input_reader_pb2

from od_eval import files
from od_eval.findings.finding import Finding
from od_eval.label_map import read_label_map
from od_eval.odapi.pipeline import Pipeline
from od_eval.odapi.record_contents import TEXT, BrokenRecord, Classes, Loss, losses, parse
from od_eval.odapi.records import input_files, serialized_records
from od_eval.text import did_you_mean, quoted

# Before the first step: long enough for some thousand records, short beside the tracing that follows.
_SECONDS_BEFORE_TRAINING = 1.5
_BECOME = {  # of one object, of several
    "dropped": ("is dropped", "are dropped"),
    "mistaken": ("would become background or another class",) * 2,
    "unnamed": ("is trained but not evaluated", "are trained but not evaluated"),
}


@dataclasses.dataclass
class LostObjects:
    """Counts the objects of the records of an input reader, and those that a training loses.

    One thread may add records while another one asks.

    Attributes:
      field: the input reader, in messages.
      classes: how it tells classes.
      num_records, num_objects: that were counted.
      is_complete: whether these are all.
    """

    field: str
    classes: Classes
    num_records: int = 0
    num_objects: int = 0
    is_complete: bool = False
    _num_lost: Counter[Loss] = dataclasses.field(default_factory=Counter)
    _first: dict[Loss, str] = dataclasses.field(default_factory=dict)
    _num_of_text: Counter[bytes] = dataclasses.field(default_factory=Counter)

    def add(self, where: str, of_objects: Iterable[Loss | None], texts: Iterable[bytes]) -> None:
        """Adds a record.

        Args:
          where: what it is called: `record 3 of 'train.record'`.
          of_objects: what `losses` says of each object.
          texts: the names of their classes, if there are any.
        """
        for loss in of_objects:
            self.num_objects += 1
            if loss is not None:
                # Before it is counted, as another thread asks for the first of all that is counted.
                self._first.setdefault(loss, where)
                self._num_lost[loss] += 1
        self._num_of_text.update(texts)
        self.num_records += 1

    def has_error(self) -> bool:
        """Whether the records so far are reason enough not to train on them."""
        return any(loss.how == "mistaken" for loss in list(self._num_lost))

    def findings(self) -> Iterator[Finding]:
        """Errors first."""
        records = f"{self.num_records} record{'' if self.num_records == 1 else 's'}"
        if not self.is_complete:
            records = f"its first {records}"
        all_lost = self.is_complete and self.num_objects > 0 and self._num_lost.total() == self.num_objects
        for loss, number in sorted(list(self._num_lost.items()), key=lambda item: item[0].how != "mistaken"):
            yield Finding(
                {"dropped": "objects_dropped", "mistaken": "objects_mistaken", "unnamed": "objects_unnamed"}[loss.how],
                "error" if all_lost or loss.how == "mistaken" else "warning",
                self.field,
                f"{number} of {self.num_objects} objects in {records} {_BECOME[loss.how][number > 1]}: {loss.why}"
                f" (first: {self._first[loss]})",
                self._remedy(loss),
                cause="and no object is left" if all_lost else "",
                field=f"{self.field}.tf_record_input_reader.input_path",
                evidence={"lost": number, "objects": self.num_objects, "records": self.num_records},
                images=[self._first[loss]],
                impact=number / self.num_objects,
            )

    def objects_of_categories(self, categories: Mapping[int, str]) -> dict[str, int] | None:
        """The number of objects of each category, by its name; None before all are counted, or if they have no texts.

        Args:
          categories: id -> name.
        """
        if not self.is_complete or not self._num_of_text or self.classes.ids is None:
            return None
        numbers = dict.fromkeys(categories.values(), 0)
        for text, number in self._num_of_text.items():
            name = categories.get(self.classes.ids.get(text.decode("utf-8", "replace"), 0))
            if name is not None:
                numbers[name] += number
        return numbers

    def _remedy(self, loss: Loss) -> str:
        if not loss.text or self.classes.ids is None:
            return "correct the records or the label map"
        similar = did_you_mean(loss.text, self.classes.ids) or did_you_mean(
            loss.text.casefold(), [name for name in self.classes.ids if name.casefold() == loss.text.casefold()]
        )
        if similar:
            return f"correct the label map or the records{similar.removesuffix('?')}"
        without = [name for name in self.classes.ids if name.encode() not in self._num_of_text]
        hint = f", where {quoted(without[:5])} has no object" if without and self.is_complete else ""
        return f"add the class to the label map{hint}, or leave it out on purpose"


@dataclasses.dataclass
class _Tally:
    """What was found in the records of one reader so far."""

    lost: LostObjects
    broken: str = ""

    def findings(self) -> Iterator[Finding]:
        """Errors first."""
        if self.broken:
            yield Finding(
                "broken_record",
                "error",
                "",
                self.broken,
                "create the file again or remove the record",
                field=f"{self.lost.field}.tf_record_input_reader.input_path",
            )
        yield from self.lost.findings()


class RecordScan:
    """Counts what is lost of the data that a training reads, beside it.

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
            (_Tally(LostObjects(field, classes_of(reader, pipeline.num_classes))), reader)
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
        if not all(tally.lost.is_complete or tally.broken for tally, _ in self._readers):
            self._thread = threading.Thread(target=self._go_on, args=(readings,), daemon=True)
            self._thread.start()

    def _go_on(self, readings: Sequence[Iterator[None]]) -> None:
        for reading in readings:
            for _ in reading:
                if self._stopped.is_set():
                    return

    def is_running(self) -> bool:
        """Whether there are records that were not read yet."""
        return self._thread is not None and self._thread.is_alive()

    def num_records(self) -> int:
        """The number of records that were read so far."""
        return sum(tally.lost.num_records for tally, _ in self._readers)

    def finish(self) -> None:
        """Ends the reading, whether all was read or not."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def has_error(self) -> bool:
        """Whether an error was found so far; takes no time, so that it can be asked at every step."""
        return any(tally.broken or tally.lost.has_error() for tally, _ in self._readers)

    def objects_of_categories(self, field: str, categories: Mapping[int, str]) -> dict[str, int] | None:
        """See `LostObjects.objects_of_categories`, of a reader; None also where it is not read."""
        of_reader = [tally.lost for tally, _ in self._readers if tally.lost.field == field]
        return of_reader[0].objects_of_categories(categories) if of_reader else None

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
                texts = example.features.feature[TEXT].bytes_list.value
                tally.lost.add(f"record {number} of '{path}'", losses(example, tally.lost.classes), texts)
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
    tally.lost.is_complete = True


def classes_of(reader: input_reader_pb2.InputReader, num_classes: int) -> Classes:
    """How an input reader tells classes, of a model with so many."""
    if not reader.label_map_path:
        return Classes(None, num_classes)
    categories = read_label_map(reader.label_map_path)
    ids = {name: one.id for one in categories for name in (one.name, one.display_name) if name}
    return Classes(ids, num_classes, reader.label_map_path)
