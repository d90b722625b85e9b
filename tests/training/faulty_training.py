"""A training with evaluation in which one write goes wrong: a process that is killed there, a disk that is full.

It is the driver's own `train` with a tiny model, so that it takes a second. As a program it reads lines of JSON,
`{"model_dir": …, "fault": …, "at": …}` and perhaps `steps` and `every`, trains each in a process of its own, which is
forked after TensorFlow was imported and before it was used, and prints a line of JSON about it. A write is a call that
changes files: of Python, or of TensorFlow, which is killed or cut off before it, or has written half. Faults:

    null     none; the writes are counted
    kill     the process is killed (SIGKILL), half of what it writes is written
    full     the disk is full (ENOSPC; for TensorFlow a limit on the size of files, as it writes from C++)
    error    the disk fails (EIO)
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import glob
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import psutil
import tensorflow as tf

import od_eval
from od_eval.odapi.optimizers import create_slots
from od_eval.odapi.pipeline import Pipeline
from od_eval.training import train as training

AP_OF_STEP = {2: 1, 4: 3, 6: 2}  # how many of four objects are found; of other steps, all
BOX = (10.0, 12.0, 50.0, 60.0)


class TinyDetector(tf.keras.Model):
    """What the driver needs of a detector; each step adds 1 to a weight, and finds what AP_OF_STEP says.

    Attributes:
      resources: megabytes, open files and threads of this process at each evaluation.
    """

    resources: ClassVar[list[tuple[float, int, int]]] = []

    def __init__(self, pipeline: Pipeline, summary_every_n: int = 0):
        super().__init__()
        self.model = tf.keras.Sequential([tf.keras.layers.Dense(1, kernel_initializer="zeros")])
        self.model.build((None, 1))
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.batch_size = 2
        self.num_train_images = 4
        self.evaluation_options = pipeline.evaluation.options

    @property
    def steps_done(self) -> int:
        return int(self.step.numpy())

    def compile(self, **unused: Any) -> None:
        super().compile(optimizer=tf.keras.optimizers.legacy.SGD(0.1), run_eagerly=True)
        create_slots(self.optimizer, self.model.trainable_variables)  # as a Detector does

    def checkpoint(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(step=self.step, model=self.model, optimizer=self.optimizer)

    def train_step(self, data: Any) -> dict[str, Any]:
        self.step.assign_add(1)
        self.optimizer.iterations.assign_add(1)
        self.model.layers[0].bias.assign_add([1.0])
        loss = tf.cast(self.step, tf.float32)
        return {"Loss/classification_loss": loss, "Loss/total_loss": loss}

    def evaluate_batches(self, dataset: Any) -> Iterator[od_eval.EvaluationBatch]:
        boxes = np.array([[BOX]] * 4)
        found = [int(image < AP_OF_STEP.get(self.steps_done, 4)) for image in range(4)]
        assert float(self.model.layers[0].bias[0]) == self.steps_done, "weights and step belong together"
        process = psutil.Process()
        megabytes = process.memory_info().rss / 1e6
        self.resources.append((megabytes, process.num_fds(), process.num_threads()))
        yield od_eval.EvaluationBatch(
            image_ids=list(range(4)),
            image_sizes=[(64, 80)] * 4,
            detections=od_eval.Detections(boxes, [[0.75]] * 4, [[1]] * 4, num=found),
            groundtruth=od_eval.GroundTruth(boxes, [[1]] * 4),
            losses={"Loss/total_loss": float(self.steps_done)},
        )

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def further_evaluator(self) -> None:
        return None


class Faults:
    """Counts the writes below a folder, and lets one go wrong."""

    def __init__(self, folder: str, fault: str | None, at: int):
        self._folder, self._fault, self._at = folder, fault, at
        self.writes: list[str] = []

    def is_due(self, what: str, path: Any) -> bool:
        """Counts a write, unless it is elsewhere."""
        if not os.path.abspath(os.fspath(path)).startswith(self._folder):
            return False
        self.writes.append(what)
        return self._fault is not None and len(self.writes) == self._at + 1

    def strike(self, half_written: Callable[[], Any] = lambda: None) -> None:
        """Lets a write of Python go wrong."""
        half_written()
        if self._fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if self._fault == "full" else errno.EIO
        raise OSError(number, os.strerror(number))

    def strike_tensorflow(self, call: Callable[[], Any], half_written: Callable[[], Any]) -> Any:
        """Lets a write of TensorFlow go wrong."""
        if self._fault == "kill":
            half_written()
            os.kill(os.getpid(), signal.SIGKILL)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        sizes = [os.path.getsize(path) for path in glob.glob(f"{self._folder}/*/*tfevents*")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (max([100, *sizes]) + 10, hard))
        try:
            return call()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def install(self) -> None:
        for module, name in ((os, "replace"), (os, "link"), (os, "remove"), (os, "makedirs"), (os, "fsync")):
            self._wrap_call(module, name)
        self._wrap_call(shutil, "copyfile")
        self._wrap_call(shutil, "rmtree")
        self._wrap_open()
        self._wrap_tensorflow(tf.train.CheckpointManager, "save", lambda own: own.directory)
        self._wrap_tensorflow(tf.train.Checkpoint, "write", lambda own, path: os.path.dirname(path))
        original = tf.summary.experimental.write_raw_pb

        def write_raw_pb(*args: Any, **kwargs: Any) -> Any:
            # Written when it is flushed, a moment later: a limit on the size of files has to last until then.
            if not self.is_due("event", self._folder):
                return original(*args, **kwargs)
            if self._fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return self.strike_tensorflow(lambda: (original(*args, **kwargs), _flush()), lambda: None)

        tf.summary.experimental.write_raw_pb = write_raw_pb

    def _wrap_call(self, module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            where = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path
            if self.is_due(f"{name} {os.path.basename(str(where))}", where):
                self.strike()
            return original(path, *args, **kwargs)

        setattr(module, name, call)

    def _wrap_open(self) -> None:
        original = builtins.open

        def open_file(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = original(path, mode, *args, **kwargs)
            if isinstance(path, int) or not set(mode) & set("wax+"):
                return file
            write = file.write

            def write_counted(data: Any) -> Any:
                if self.is_due(f"write {os.path.basename(os.fspath(path))}", path):
                    self.strike(lambda: (write(data[: len(data) // 2]), file.flush()))
                return write(data)

            with contextlib.suppress(AttributeError):
                file.write = write_counted
                return file
            return _Wrapped(file, write_counted)

        builtins.open = open_file

    def _wrap_tensorflow(self, owner: Any, name: str, folder_of: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            folder = folder_of(*args)
            if not self.is_due(f"checkpoint in {os.path.basename(folder)}", folder):
                return original(*args, **kwargs)

            def half_written() -> None:
                """The data without an index, and the folder that TensorFlow writes to."""
                os.mkdir(f"{folder}/ckpt-7_temp")
                Path(f"{folder}/ckpt-7_temp/part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
                Path(f"{folder}/ckpt-8.data-00000-of-00001").write_bytes(b"half")

            return self.strike_tensorflow(lambda: original(*args, **kwargs), half_written)

        setattr(owner, name, call)


def _flush() -> None:
    from od_eval.tensorboard import writers

    for run in writers._open_runs.values():
        if run.writer is not None:
            run.writer.flush()


class _Wrapped:
    """A file whose `write` is counted."""

    def __init__(self, file: Any, write: Callable[[Any], Any]):
        self._file, self.write = file, write

    def __enter__(self) -> _Wrapped:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def run(config: str, overrides: list[str], task: dict[str, Any]) -> dict[str, Any]:
    """Trains in this process; returns what there is to tell."""
    model_dir = task["model_dir"]
    training.Detector = TinyDetector  # type: ignore[assignment, misc]
    data = tf.data.Dataset.from_tensors((tf.zeros([2, 1]), tf.zeros([2, 1]))).repeat()
    Pipeline.train_dataset = lambda self: data  # type: ignore[method-assign]
    Pipeline.eval_dataset = lambda self, index=0: [{}]  # type: ignore[method-assign, assignment, return-value]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    faults = Faults(model_dir, task["fault"], task["at"])
    faults.install()
    error = None
    try:
        training.train(
            config,
            model_dir,
            overrides=overrides,
            num_train_steps=task.get("steps", 6),
            checkpoint_every_n=task.get("every", 2),
            checkpoint_max_to_keep=2,
            log_every_n=1,
        )
    except od_eval.ODEvalError as raised:
        error = str(raised)
    return {"writes": faults.writes, "error": error, "resources": TinyDetector.resources}


def main() -> None:
    config, overrides = sys.argv[1], sys.argv[2:]
    for line in sys.stdin:
        task = json.loads(line)
        output = f"{task['model_dir']}.output"
        process = os.fork()
        if process == 0:
            log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                told = run(config, overrides, task)
                Path(f"{task['model_dir']}.told").write_text(json.dumps(told))
                status = 0
            except BaseException:
                traceback.print_exc()
                status = 70
            sys.stdout.flush()
            os._exit(status)
        _, status = os.waitpid(process, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
