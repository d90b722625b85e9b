"""Makes the batch of a training step again, and says which record is to blame for a loss that is not finite or a spike.

    od-eval replay --model_dir=runs/raccoon --step=812

`od-eval train` records which records are in each batch. Here each image of the batch goes alone through the model, with
the weights of the newest checkpoint before the step; printed are its losses, without regularization, the worst image
first, its objects with their values, and what is usual: the losses of 32 other training images. If none stands out, the
five steps before are looked at, too, as a gradient breaks the weights for the steps that follow.

A training with --seed is made again exactly, if the step is no more than 10,000 images after its start. Otherwise the
records are augmented anew, five times, and the worst counts.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from od_eval.findings.finding import findings_section
from od_eval.findings.shown import as_text
from od_eval.text import printable, shortened, table

if TYPE_CHECKING:
    from od_eval.training.replay import Replay, ReplayedImage

flags.DEFINE_string("model_dir", None, "The model_dir of the training run.", required=True)
flags.DEFINE_integer("step", None, "The step, counted from 1, as an error or TensorBoard shows it.", 1, required=True)
flags.DEFINE_string(
    "checkpoint", None, "The weights; default: the newest checkpoint before the step, or the oldest one after it."
)
flags.DEFINE_bool("json", False, "Whether to print JSON instead, and nothing else.")

FLAGS = flags.FLAGS


def main() -> int:
    """Replays the step given by the flags; returns the exit status."""
    say = functools.partial(print, flush=True) if not FLAGS.json else _silent
    say("Loading TensorFlow …")
    from od_eval.training.replay import replay

    replayed = replay(FLAGS.model_dir, FLAGS.step, checkpoint=FLAGS.checkpoint, say=say)
    if FLAGS.json:
        print(as_json(replayed))
    else:
        print("", *lines_of(replayed), sep="\n")
    return 0


def as_json(replayed: Replay) -> str:
    """A replay as JSON; numbers that are not finite are strings."""
    (finding,) = findings_section([replayed.finding])
    return json.dumps(_plain({**dataclasses.asdict(replayed), "finding": finding}), indent=1, allow_nan=False)


def lines_of(replayed: Replay) -> Iterator[str]:
    """A replay for a terminal."""
    names = list(replayed.images[0].losses)
    head = ["step", *names, "image", "record"]
    rows = [
        [
            str(image.step),
            *(f"{image.losses[name]:.4g}" for name in names),
            printable(image.name, 40) or "-",
            printable(image.record, 120),
        ]
        for image in replayed.images
    ]
    yield from shortened(table([head, *rows], left=(len(names) + 1, len(names) + 2)).split("\n"))
    for name, usual in replayed.usual.items():
        yield f"{name} of {replayed.num_others} other images: median {usual.median:.4g}, 9 of 10 below {usual.p90:.4g}"
    for image in replayed.images:
        if image.objects:
            yield from ("", printable(f"Objects of {image.record}"), table(_rows_of_objects(image)))
    yield ""
    for image in replayed.images:
        if image.odd and not image.stands_out:
            yield printable(f"{image.record}: {image.odd[0]}, which its losses do not show")
    if not replayed.is_exact:
        yield "Augmented anew, so not the images of the step to the pixel; of several augmentations the worst is shown."
    if replayed.num_missing:
        yield f"{replayed.num_missing} records of step {replayed.step} are in the files no more."
    yield as_text([replayed.finding])


def _rows_of_objects(image: ReplayedImage) -> list[list[str]]:
    rows = [["object", "category", "ymin", "xmin", "ymax", "xmax", "weight", "total_loss alone"]]
    for index, (one, loss) in enumerate(zip(image.objects, image.object_losses, strict=True)):
        values = [f"{value:.4g}" for value in (*one.box, one.weight)]
        rows.append([str(index), one.category, *values, "dropped" if one.is_dropped else f"{loss:.4g}"])
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _silent(*unused: object) -> None:
    """Prints nothing, as what is printed is JSON."""
