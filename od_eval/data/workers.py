"""Worker processes that convert images, and end whenever this process ends."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
from collections.abc import Generator, Sequence

from od_eval import start_notices
from od_eval.data.annotations import AnnotatedImage
from od_eval.data.encoding import Encoding
from od_eval.data.examples import Converted, convert_image
from od_eval.errors import ODEvalError

# Below this many images, starting worker processes takes longer than it saves.
_MIN_IMAGES_FOR_WORKERS = 1000
_IMAGES_PER_TASK = 16  # of a worker process
_MOST_WORKERS_PER_PROCESSOR = 8
_TASKS_AHEAD = 64  # per worker; more would fill memory if the disk is slower


def default_num_workers(num_images: int) -> int:
    """The default number of processes for a number of images."""
    if num_images < _MIN_IMAGES_FOR_WORKERS:
        return 1
    return _num_processors()


def check_num_workers(num_workers: int) -> None:
    """Checks that a number of processes is one that a machine can start, and gains from.

    Raises:
      ODEvalError: it is not.
    """
    most = _MOST_WORKERS_PER_PROCESSOR * _num_processors()
    if not 1 <= num_workers <= most:
        raise ODEvalError(f"num_workers={num_workers} is not from 1 to {most}, the most that this machine gains from.")


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_images(
    images: Sequence[AnnotatedImage], encoding: Encoding, num_workers: int
) -> Generator[Converted, None, None]:
    """Converts images in several processes.

    Args:
      images: the images of the dataset, or a part of them.
      encoding: the encoding of the dataset.
      num_workers: the number of processes; 1 means this process. They end if the iterator is closed early.

    Yields:
      The result of `convert_image` for each image, in order.

    Raises:
      ODEvalError: a process was killed.
    """
    if num_workers <= 1:
        for image in images:
            yield convert_image(image, encoding)
        return
    # Not forked: the caller's process may have threads, TensorFlow's for example.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=_start_worker, initargs=(stop,))
    try:
        step = num_workers * _TASKS_AHEAD * _IMAGES_PER_TASK
        for start in range(0, len(images), step):
            convert = functools.partial(_convert_unless_stopped, encoding=encoding)
            yield from pool.map(convert, images[start : start + step], chunksize=_IMAGES_PER_TASK)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ODEvalError(
            "a worker process was killed, as happens when memory runs out; set num_workers to a lower number."
        ) from error
    finally:
        stop.set()  # if the iterator is closed early, nobody waits for the images of tasks that have begun
        pool.shutdown(cancel_futures=True)


_stop: multiprocessing.synchronize.Event  # of a worker process


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    start_notices.hide()  # a worker imports TensorFlow to read remote files
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _convert_unless_stopped(image: AnnotatedImage, encoding: Encoding) -> Converted:
    if _stop.is_set():
        raise concurrent.futures.CancelledError
    return convert_image(image, encoding)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the parent was killed; otherwise this process would wait for tasks forever
