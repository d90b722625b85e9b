"""The interface to TensorFlow Model Garden; no other part of this package imports `official`.

experiment.py   its flags -> a config that trains here, and what had to be changed in it
records.py      what the records of a dataset hold that Model Garden trips over
trainer.py      its trainer, and the model as callbacks and evaluations know one
batches.py      what its tasks return for a batch -> detections and ground truth, or labels and scores
losses.py       its losses -> parts that add up
summaries.py    what it reports of training and evaluation -> scalars
"""

import importlib.util

from od_eval.errors import ODEvalError

if importlib.util.find_spec("orbit") is None:  # which tf-models-official alone has
    raise ODEvalError(
        "TensorFlow Model Garden is not installed: pip install tf-models-official, on Python before 3.13."
    )
