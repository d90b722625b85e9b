"""The console command `od-eval`, and what all programs share: flags, help, errors, exit status.

    od-eval train --pipeline_config_path=… --model_dir=…

A program is a module of `od_eval.programs`: its docstring is its help text, importing it defines its absl flags, and
its `main()` returns the exit status. If it takes arguments that are no flags, `MOST_ARGUMENTS` says how many, and they
are given to `main`. `scripts/` has a launcher for each.

Exit status: 0 success; 1 an error, described on stderr in a sentence; 2 wrong flags; 75 an error that starting again
mends, such as a lost worker; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence

# Subcommand -> (its module in od_eval.programs, description).
PROGRAMS = {
    "quickstart": ("quickstart", "draw images of shapes and train a small detector on them, to see what there is"),
    "train": ("train", "train a detector from a pipeline.config"),
    "search": ("search", "try values of fields of the config: many trainings, the best values of them"),
    "convert": ("convert", "COCO JSON, Pascal VOC or CSV -> TFRecords and a label map"),
    "check": ("check", "a config and its data, or annotations: find what is wrong before training"),
    "shapes": ("shapes", "draw a dataset of shapes with boxes and masks"),
    "export": ("export", "write a SavedModel or a TensorFlow Lite model of a trained detector"),
    "benchmark": ("benchmark", "a trained detector in several formats: AP, size, latency and memory side by side"),
    "evaluate": ("evaluate", "COCO ground truth and detections -> metrics, files and TensorBoard"),
    "detect": ("detect", "images and videos -> pictures with what a model finds in them, COCO JSON, CSV"),
    "compare": ("compare", "two runs, steps or files of detections: what differs, object by object"),
    "diagnose": ("diagnose", "a training that runs or has ended: what it shows, why, and what to do"),
    "report": ("report", "evaluations as one HTML file, to look at the errors and to share"),
    "replay": ("replay", "the batch of a training step again: which record is to blame for a loss"),
    "install_odapi": ("install_odapi", "add the Object Detection API on Python 3.13 or TensorFlow 2.21"),
}


def main() -> None:
    """The entry point of `od-eval`; exits the process."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in PROGRAMS:
        program = arguments[0]
        sys.exit(run(program, [f"od-eval {program}", *arguments[1:]]))
    wanted_help = bool(arguments) and arguments[0] in ("--help", "-h", "help")
    lines = ["usage: od-eval PROGRAM [--flags]   (od-eval PROGRAM --help lists its flags)", ""]
    lines += [f"  {name:14}{description}" for name, (_, description) in PROGRAMS.items()]
    print("\n".join(lines), file=sys.stdout if wanted_help else sys.stderr)
    sys.exit(0 if wanted_help else 2)


def run(program: str, argv: Sequence[str]) -> int:
    """Runs one program.

    Args:
      program: a key of `PROGRAMS`.
      argv: the command line, starting with the program's name.

    Returns:
      The exit status.
    """
    from absl import flags
    from absl import logging as absl_logging  # defines --verbosity

    from od_eval import files, start_notices
    from od_eval.errors import ODEvalError
    from od_eval.streams import make_unfailing
    from od_eval.text import printable

    make_unfailing()
    # Set before TensorFlow is imported, which would otherwise load Keras 3 as well.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        module = importlib.import_module(f"od_eval.programs.{PROGRAMS[program][0]}")
    except ODEvalError as error:  # something is missing in this environment
        print(f"error: {error}", file=sys.stderr)
        return 1
    if any(argument in ("--help", "-help", "-h", "--helpshort", "--helpfull") for argument in argv[1:]):
        print((module.__doc__ or "").strip(), flags.FLAGS.module_help(module), sep="\n\n")
        return 0
    try:
        arguments = flags.FLAGS(argv)[1:]
        most = getattr(module, "MOST_ARGUMENTS", 0)
        if len(arguments) > most:
            raise flags.Error(f"unexpected argument '{arguments[most]}'; flags are written --name=value")
    except flags.Error as error:
        print(f"{argv[0]}: {printable(str(error))}\nIts flags: {argv[0]} --help", file=sys.stderr)
        return 2
    verbose = flags.FLAGS.verbosity >= 1
    if not verbose:
        # Hides device messages and deprecation notices of TensorFlow, and developer messages of the Object Detection
        # API. Errors in TensorFlow's C++ code, which reads the variable, still reach Python as exceptions.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        start_notices.hide()
        absl_logging.set_verbosity(absl_logging.ERROR)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that unfinished files are removed
    try:
        return module.main(*arguments)
    except ODEvalError as error:
        if verbose:
            raise
        message = "\n".join(map(printable, _with_flags(str(error), flags.FLAGS).split("\n")))
        print(f"error: {message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # of a bucket, which may refuse or fail at any call
        if verbose or ":/" not in str(error.filename):
            raise
        print(printable(f"error: '{error.filename}': {files.reason(error)}."), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _with_flags(message: str, known: Iterable[str]) -> str:
    """Adapts an error message of the library for a program: `eval_every_n=0` becomes `--eval_every_n=0`.

    Flags have the same names as the arguments they are passed to.
    """
    return re.sub(rf"(?<![\w.\-/'\"])({'|'.join(map(re.escape, known))})=", r"--\1=", message)
