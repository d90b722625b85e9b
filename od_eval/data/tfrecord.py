"""The files of a dataset: TFRecords of `tf.train.Example`, written all or none, on any file system."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from od_eval import files
from od_eval.data.examples import Features
from od_eval.errors import ODEvalError
from od_eval.text import some

LABEL_MAP = "label_map.pbtxt"

_IMAGES_PER_SHARD = 500
_MOST_SHARDS = 99_999  # five digits in the names of files, which `?????` stands for in a config
# Type of a feature's values -> the field of `tf.train.Feature` that holds them.
_KINDS = {bytes: "bytes_list", float: "float_list", int: "int64_list"}


def choose_num_shards(num_images: int, wanted: int | None = None) -> int:
    """The number of files for a number of images: one per 500, or as many as are wanted, but no more than images.

    Raises:
      ODEvalError: more are wanted than the names of files can count.
    """
    if wanted is None:
        return min(-(-num_images // _IMAGES_PER_SHARD), _MOST_SHARDS)
    if wanted > _MOST_SHARDS:
        raise ODEvalError(f"num_shards={wanted} is more than {_MOST_SHARDS}, the most that names of files can count.")
    return min(wanted, num_images)


def shard_pattern(split: str, num_shards: int) -> str:
    """The pattern of the files of a split, as used in a config: "train-?????-of-00010"."""
    return f"{split}-?????-of-{num_shards:05d}"


def shard_name(split: str, shard: int, num_shards: int) -> str:
    """The name of a file of a split: "train-00000-of-00010"."""
    return f"{split}-{shard:05d}-of-{num_shards:05d}"


def shard_slices(num_images: int, num_shards: int) -> list[slice]:
    """For each file, which of the images of a split are in it: as many as in any other, or one more."""
    bounds = [shard * num_images // num_shards for shard in range(num_shards + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def shards_in(folder: files.Path, split: str) -> list[str]:
    """The names of the files of a split in a folder, for any number of shards, sorted."""
    return [name for name in files.names_in(folder) if re.fullmatch(rf"{split}-\d{{5}}-of-\d{{5}}", name)]


def write_shard(path: files.Path, examples: Iterable[Features]) -> None:
    """Writes the records of a file, which appears when it is complete; the same records give the same file.

    Args:
      path: the file, in a folder that exists.
      examples: the features of each record.

    Raises:
      OSError: it cannot be written.
    """
    import tensorflow as tf  # here, because earlier errors appear sooner

    temporary = files.temporary_path(path)  # two processes may write the same file: of the first, nobody heard
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for features in examples:
                example = tf.train.Example()
                for key, values in features.items():
                    feature = example.features.feature[key]
                    if values:
                        getattr(feature, _KINDS[type(values[0])]).value.extend(values)
                writer.write(example.SerializeToString(deterministic=True))
    except tf.errors.OpError as error:
        raise OSError(None, files.reason(error), os.fspath(path)) from error
    files.rename(temporary, path)


@contextlib.contextmanager
def dataset_folder(
    folder: files.Path, splits: Sequence[str], other_files: Sequence[str], overwrite: bool
) -> Iterator[str]:
    """A temporary folder for a new dataset; its files appear in `folder` when complete, or not at all if anything
    fails.

    Args:
      folder: the folder of the dataset, on any file system; created if missing.
      splits: the splits that will be written.
      other_files: the names of other files, or folders, that will be written.
      overwrite: whether existing files of these splits and names are replaced, even if the number of shards differs.
        Any other existing split is kept.

    Yields:
      A folder to write to, on the same file system.

    Raises:
      ODEvalError: such files already exist and `overwrite` is false, the folder has no name, or the files cannot be
        written.
    """
    folder = os.fspath(folder)
    if not folder:
        raise ODEvalError("the output folder has no name; write . for the working directory.")
    try:
        folder.encode()
    except UnicodeEncodeError as error:  # of a terminal with another encoding
        raise ODEvalError(f"TensorFlow cannot write to '{folder}', whose name is not UTF-8; choose another.") from error
    temporary = f"{folder}/.unfinished"  # always the same name, so that leftovers of a killed run are removed
    try:
        existing = [name for split in splits for name in shards_in(folder, split)]
        existing += [name for name in other_files if files.exists(f"{folder}/{name}")]
        if existing and not overwrite:
            raise ODEvalError(
                f"'{folder}' already contains {some(sorted(existing), 3)}; choose another output folder, or set"
                " overwrite=True."
            )
        is_new = not files.exists(folder)
        if files.exists(temporary):
            files.remove(temporary)
        files.make_folder(temporary)
        try:
            yield temporary
            for name in existing:
                files.remove(f"{folder}/{name}")
            # Records first: a dataset with a label map is complete.
            for name in sorted(files.names_in(temporary), key=lambda name: (name == LABEL_MAP, name)):
                if not name.endswith(".tmp"):  # of a worker that was killed
                    files.rename(f"{temporary}/{name}", f"{folder}/{name}")
        finally:
            with contextlib.suppress(OSError):  # the error that led here matters more
                files.remove(temporary)
                if is_new and not files.names_in(folder):
                    files.remove(folder)
    except OSError as error:
        raise ODEvalError(f"the dataset cannot be written to '{folder}': {files.reason(error)}.") from error
