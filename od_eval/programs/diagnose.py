"""Says what a training shows, why, and what to do: over-fitting, a learning rate too high, small objects missed, ….

    od-eval diagnose --model_dir=runs/a
    od-eval diagnose --model_dir=runs/a --run=eval/night --json

It reads the event files, the evaluations and their tables of objects; the training may be running or finished, of this
package or of the Object Detection API's own program. Each finding says what was seen, with numbers, the likely cause
and what to do, with what to pass to --set where that is a field of the pipeline.config, and how sure it is. A training
that is healthy has none. While a training runs, the same findings are in TensorBoard (Text, findings) and metrics.json.

The exit status is 0 whatever was found.
"""

from __future__ import annotations

import json

from absl import flags

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "The folder of the training.", required=True)
flags.DEFINE_string("run", "eval", "The run of the evaluations: eval, or eval/NAME of a named eval_input_reader.")
flags.DEFINE_bool("json", False, "Whether to print JSON, for programs.")


def main() -> int:
    """Diagnoses the training given by the flags; returns the exit status."""
    from od_eval.health.diagnosing import diagnose

    report = diagnose(FLAGS.model_dir, FLAGS.run)
    print(json.dumps(report.to_dict(), indent=1, allow_nan=False) if FLAGS.json else report.to_text())
    return 0
