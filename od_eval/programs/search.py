"""Tries values of fields of the pipeline.config, one training for each trial, and says which are the best.

    od-eval search --pipeline_config_path=pipeline.config --model_dir=runs/search --num_train_steps=1000 \\
        --eval_every_n=100 --num_trials=20 --try train_config.batch_size=4,8 \\
        --try train_config.optimizer.momentum_optimizer.momentum_optimizer_value=0.8..0.99

--try takes a list, a,b,c, or a range, low..high, of whole numbers if both ends are, and on a log scale with " log"
behind it: '…learning_rate_base=0.001..0.1 log'. --method=grid tries all combinations of lists; random, the default,
draws; with bayes, Optuna learns from the trials before what to propose (pip install "od_eval[search]"). A trial that
does worse than the median of the others is ended early, from the fifth on. The same command continues a search that
was stopped, also with another --num_trials or --method. To run a trial again, remove its folder.

All other flags are those of od-eval train (od-eval train --help), and are the same for every trial. Each trial is a
model_dir of its own, trial-0001 and so on in --model_dir; TensorBoard's HParams has a row for each, with a column for
each field.
"""

from __future__ import annotations

import signal
import sys

from absl import flags

from od_eval.errors import ODEvalError
from od_eval.programs import analysis_flags, train

FLAGS = flags.FLAGS

flags.DEFINE_multi_string("try", [], "A field and its values: FIELD=a,b,c or FIELD=low..high. Once for each field.")
flags.DEFINE_enum("method", "random", ["grid", "random", "bayes"], "How values are chosen.")
flags.DEFINE_integer("num_trials", None, "The number of trials; default: 20, with grid all combinations.", 1, 100_000)
flags.DEFINE_string("metric", None, "What is best in the best trial, e.g. val_AP50; default: the AP.")
flags.DEFINE_bool("end_bad_trials", True, "Whether trials that do worse than others are ended early.")
for _name in ("pipeline_config_path", "zoo", "model_dir", "num_train_steps", "eval_every_n", "seed", "set"):
    flags.declare_key_flag(_name)

# Flags of od-eval train that make no sense here -> what to do.
_REFUSED = {
    "best_metric": "give metric instead, which decides on the best checkpoint of each trial as well",
    "checkpoint_dir": "leave it out, as trials train and evaluate",
    "hparam": "leave it out: every field that is tried is a column of HParams",
    "cluster_timeout": "leave it out, as each trial trains in one process",
    "num_workers": "leave it out, as each trial trains in one process",
}


def main() -> int:
    """Searches as the flags say; returns the exit status."""
    modules = (train.__name__, analysis_flags.__name__)
    of_train = [flag for module in modules for flag in FLAGS.flags_by_module_dict()[module]]
    given = [flag for flag in of_train if flag.present and flag.name != "model_dir"]
    for flag in given:
        if flag.name in _REFUSED:
            raise ODEvalError(f"{flag.name}={flag.value} is not for a search: {_REFUSED[flag.name]}.")
    if FLAGS.eval_every_n == 0 or (FLAGS.learning_rate or "").startswith("range_test"):
        raise ODEvalError("a search needs evaluations: leave out --eval_every_n=0 and --learning_rate=range_test.")
    from od_eval.training.search import search

    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # The trial, which has no terminal, would outlive it.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    search(
        FLAGS.pipeline_config_path or _config_of_zoo(FLAGS.zoo),
        FLAGS.model_dir,
        FLAGS["try"].value,
        overrides=[*([FLAGS.config_override] if FLAGS.config_override else []), *FLAGS.set],
        method=FLAGS.method,
        num_trials=FLAGS.num_trials,
        metric=FLAGS.metric,
        seed=FLAGS.seed,
        end_bad_trials=FLAGS.end_bad_trials,
        train_arguments=[argument for flag in given for argument in _arguments(flag)],
    )
    return 0


def _arguments(flag: flags.Flag) -> list[str]:
    """A flag as it is written on a command line."""
    if isinstance(flag.value, list):
        return [f"--{flag.name}={value}" for value in flag.value]
    return [f"--{flag.name}={str(flag.value).lower() if flag.boolean else flag.value}"]


def _config_of_zoo(name: str) -> str:
    from od_eval.odapi.zoo import fetch

    return fetch(name).config
