"""TensorFlow as the runtime of a model."""

from __future__ import annotations

from od_eval.errors import ODEvalError


def start_tensorflow(num_threads: int | None) -> str:
    """Starts TensorFlow with a number of threads; returns its name and version.

    Args:
      num_threads: for an operation, and for operations next to each other; None: as many as TensorFlow chooses.

    Raises:
      ODEvalError: it runs already, with other threads.
    """
    import tensorflow as tf

    if num_threads is not None:
        threading = tf.config.threading
        try:
            threading.set_intra_op_parallelism_threads(num_threads)
            threading.set_inter_op_parallelism_threads(num_threads)
        except RuntimeError as error:
            if threading.get_intra_op_parallelism_threads() != num_threads:
                raise ODEvalError(
                    f"num_threads is {num_threads}, but TensorFlow runs already with other threads; load this model"
                    " first, in a new process."
                ) from error
    return f"TensorFlow {tf.__version__}"
