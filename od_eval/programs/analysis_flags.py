"""The flags of analyses, for the programs that evaluate."""

from __future__ import annotations

from absl import flags

from od_eval.errors import ODEvalError
from od_eval.evaluation.options import AnalysisOptions

FLAGS = flags.FLAGS

flags.DEFINE_bool("analysis", True, "Whether to analyse errors, and to write the files of <run>/analysis.")
flags.DEFINE_float("analysis_max_mb", 500, "Room for these files in MB; first, best and newest stay.", lower_bound=0)
flags.DEFINE_bool("save_examples", False, "Whether to write pictures of errors as PNG files, too.")
flags.DEFINE_float("confidence", None, "The score from which detections are used; default: that with the highest F1.")
flags.DEFINE_float("f_beta", 1, "Chooses it by F-beta, in which recall counts so many times as much as precision.")
flags.DEFINE_float("cost_fp", None, "With --cost_fn, chooses it by the lowest cost: of a wrong detection.")
flags.DEFINE_float("cost_fn", None, "With --cost_fp: the cost of an object that is not found.")
flags.DEFINE_multi_string(
    "size_range",
    [],
    "A range of areas in pixels for AP and recall, e.g. --size_range=plates:0:400. May be given several times.",
)


def analysis_options() -> AnalysisOptions | None:
    """How to analyse, as the flags say; None for not at all.

    Raises:
      ODEvalError: a value makes no sense.
    """
    options = AnalysisOptions(
        confidence=FLAGS.confidence,
        f_beta=FLAGS.f_beta,
        cost_fp=FLAGS.cost_fp,
        cost_fn=FLAGS.cost_fn,
        size_ranges=dict(map(_size_range, FLAGS.size_range)),
        save_examples=FLAGS.save_examples,
        max_megabytes=FLAGS.analysis_max_mb,
    )
    return options if FLAGS.analysis else None


def _size_range(text: str) -> tuple[str, tuple[float, float]]:
    name, *bounds = text.rsplit(":", 2)
    try:
        low, high = map(float, bounds)
    except ValueError:
        raise ODEvalError(
            f"--size_range='{text}' is not a name and two areas in pixels; write it like plates:0:400."
        ) from None
    return name, (low, high)
