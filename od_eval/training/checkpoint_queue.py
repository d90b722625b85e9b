"""A queue of the checkpoints that another process writes."""

from __future__ import annotations

import os
import sys
import threading

from od_eval import checkpoint_files, files
from od_eval.errors import ODEvalError

SECONDS_BETWEEN_LOOKS = 1.0


class CheckpointQueue:
    """The checkpoints of a folder in order, each kept until it is evaluated, even if training deletes it.

    While this context is active, a thread looks for new checkpoints and links or copies them to a folder of its own.
    Checkpoints left there when a process ends are waiting in the next process.

    Args:
      checkpoint_dir: the folder where checkpoints appear.
      kept_dir: the folder where they wait.
    """

    def __init__(self, checkpoint_dir: str, kept_dir: str):
        self._checkpoint_dir = checkpoint_dir
        self._kept_dir = kept_dir
        self._seen: set[int] = set()
        self._changed = threading.Condition()
        self._ends = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> CheckpointQueue:
        checkpoint_files.remove_interrupted(self._kept_dir)
        self._seen = set(checkpoint_files.numbers_in(self._kept_dir))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if files.is_folder(self._kept_dir) and not files.names_in(self._kept_dir):
            files.remove(self._kept_dir)

    def waiting(self) -> bool:
        """Whether a checkpoint is waiting."""
        return bool(checkpoint_files.numbers_in(self._kept_dir))

    def take(self, timeout: float) -> tuple[str, str] | None:
        """Waits for the next checkpoint.

        Returns:
          Its path in `checkpoint_dir`, and the path where it is kept; None if none appeared within `timeout` seconds.

        Raises:
          ODEvalError: checkpoints can no longer be listed or kept.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.waiting() or self._error, timeout)
        if self._error and not self.waiting():
            raise ODEvalError(
                f"checkpoints of '{self._checkpoint_dir}' cannot be kept in '{self._kept_dir}':"
                f" {files.reason(self._error)}."
            ) from self._error
        numbers = checkpoint_files.numbers_in(self._kept_dir)
        if not numbers:
            return None
        original = checkpoint_files.path_of(self._checkpoint_dir, numbers[0])
        return original, checkpoint_files.path_of(self._kept_dir, numbers[0])

    def done(self, kept: str) -> None:
        """Releases a checkpoint that was taken."""
        checkpoint_files.remove(kept)

    def _look(self) -> None:
        try:
            while not self._ends.is_set():
                for number in checkpoint_files.numbers_in(self._checkpoint_dir):
                    if number not in self._seen:
                        self._keep(number)
                        self._seen.add(number)
                        with self._changed:
                            self._changed.notify_all()
                self._ends.wait(SECONDS_BETWEEN_LOOKS)
        except Exception as error:  # `take` raises it
            self._error = error
            with self._changed:
                self._changed.notify_all()

    def _keep(self, number: int) -> None:
        files.make_folder(self._kept_dir)
        try:
            # The index last, as TensorFlow writes it: once it exists, the checkpoint is complete.
            for path in checkpoint_files.files_of(checkpoint_files.path_of(self._checkpoint_dir, number)):
                files.link_or_copy(path, os.path.join(self._kept_dir, os.path.basename(path)))
        except FileNotFoundError:
            print(
                f"warning: ckpt-{number} was deleted before it could be kept, and is not evaluated; let the training"
                " keep more checkpoints.",
                file=sys.stderr,
            )
            checkpoint_files.remove(checkpoint_files.path_of(self._kept_dir, number))
