"""The files of a dataset: TFRecords of `tf.train.Example`, written all or none."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from od_eval import files
from od_eval.data.examples import Features
from od_eval.errors import ODEvalError
from od_eval.text import some

LABEL_MAP = "label_map.pbtxt"

# The default number of images per file, and the maximum number of files; more would not help a reader.
_IMAGES_PER_SHARD = 500
_MAX_SHARDS = 100
# Type of a feature's values -> the field of `tf.train.Feature` that holds them.
_KINDS = {bytes: "bytes_list", float: "float_list", int: "int64_list"}


def default_num_shards(num_images: int) -> int:
    """The default number of files for a number of images."""
    return min(-(-num_images // _IMAGES_PER_SHARD), _MAX_SHARDS)


def shard_pattern(split: str, num_shards: int) -> str:
    """The pattern of the files of a split, as used in a config: "train-?????-of-00010"."""
    return f"{split}-?????-of-{num_shards:05d}"


def shards_in(folder: files.Path, split: str) -> list[Path]:
    """The files of a split in a local folder, for any number of shards, sorted."""
    return sorted(Path(folder).glob(f"{split}-?????-of-?????"))


def write_shards(folder: Path, split: str, num_shards: int, examples: Iterable[Features]) -> None:
    """Writes records to the files of a split in turn; the same records give the same files.

    Args:
      folder: the output folder.
      split: "train" or "validation".
      num_shards: the number of files.
      examples: the features of each record.

    Raises:
      OSError: they cannot be written.
    """
    import tensorflow as tf  # here, because worker processes do not need it, and earlier errors appear sooner

    try:
        with contextlib.ExitStack() as stack:
            paths = [folder / f"{split}-{shard:05d}-of-{num_shards:05d}" for shard in range(num_shards)]
            writers = [stack.enter_context(tf.io.TFRecordWriter(str(path))) for path in paths]
            for features, writer in zip(examples, itertools.cycle(writers), strict=False):
                example = tf.train.Example()
                for key, values in features.items():
                    feature = example.features.feature[key]
                    if values:
                        getattr(feature, _KINDS[type(values[0])]).value.extend(values)
                writer.write(example.SerializeToString(deterministic=True))
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


@contextlib.contextmanager
def dataset_folder(
    folder: files.Path, splits: Sequence[str], other_files: Sequence[str], overwrite: bool
) -> Iterator[Path]:
    """A temporary folder for a new dataset; its files appear in `folder` when complete, or not at all if anything
    fails.

    Args:
      folder: the folder of the dataset, on this machine; created if missing.
      splits: the splits that will be written.
      other_files: the names of other files, or folders, that will be written.
      overwrite: whether existing files of these splits and names are replaced, even if the number of shards differs.
        Any other existing split is kept.

    Yields:
      A folder to write to.

    Raises:
      ODEvalError: such files already exist and `overwrite` is false, the folder has no name or is not on this machine,
        or the files cannot be written.
    """
    if not os.fspath(folder):
        raise ODEvalError("the output folder has no name; write . for the working directory.")
    try:
        os.fspath(folder).encode()
    except UnicodeEncodeError as error:  # of a terminal with another encoding
        raise ODEvalError(f"TensorFlow cannot write to '{folder}', whose name is not UTF-8; choose another.") from error
    if files.is_remote(folder) or re.match(r"\w\w+:/", os.fspath(folder)):  # a Path turns gs://… into gs:/…
        raise ODEvalError(f"'{folder}' is not a local folder; write to one and copy the files from there.")
    folder = Path(folder)
    temporary = folder / ".unfinished"  # always the same name, so that leftovers of a killed run are removed
    try:
        existing = [path for split in splits for path in shards_in(folder, split)]
        existing += [folder / name for name in other_files if (folder / name).exists()]
        if existing and not overwrite:
            names = some(sorted(path.name for path in existing), 3)
            raise ODEvalError(
                f"'{folder}' already contains {names}; choose another output folder, or set overwrite=True."
            )
        is_new = not folder.exists()
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for path in existing:
                files.remove(path)
            # Records first: a dataset with a label map is complete.
            for path in sorted(temporary.iterdir(), key=lambda path: (path.name == LABEL_MAP, path.name)):
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if is_new:
                with contextlib.suppress(OSError):  # not empty: it contains the dataset
                    folder.rmdir()
    except OSError as error:
        raise ODEvalError(f"the dataset cannot be written to '{folder}': {error.strerror or error}.") from error
