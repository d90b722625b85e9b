"""The HParams tab: a table of runs with their hyperparameters and metrics.

    write("runs/a/eval", {"architecture": "ssd_mobilenet_v2_keras", "batch_size": 8})
    …
    end("runs/a/eval", succeeded=True, step=1000)

TensorBoard treats a run with hyperparameters as a *session*, and looks for its metrics among the scalars of the same
run. So they are written to the run of the evaluation. The session has the name of this run, and is a row of its own
even if another run has the same hyperparameters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from od_eval import losses
from od_eval.evaluation.sections.coco import metric_tag
from od_eval.tensorboard import writers

# The number of hyperparameter columns that TensorBoard's table shows at first; others can be added.
_NUM_SHOWN = 5


def write(
    run_dir: str,
    values: Mapping[str, str | float | bool | int],
    masks: bool = False,
    searched: Mapping[str, str | float | bool | int] | None = None,
) -> None:
    """Adds a run to the table of the HParams tab when training starts.

    Numbers are written as people write them, as texts: TensorBoard would show 8 as 8.0000 and 0.05 as 0.050000. Those
    that are searched stay numbers, by which its plots have axes.

    TensorBoard keeps the first values of a run: other values of resumed training are not shown. It takes the columns
    from one of the runs under its logdir, so all of them should have the same names of values.

    Args:
      run_dir: the run with the metrics: that of the evaluation.
      values: name -> value; see `od_eval.odapi.hyperparameters`. The first five are shown as columns, the others can
        be selected by the user.
      masks: whether there are mask metrics to show.
      searched: values of a search, which stand before the others, and are all shown; name -> value.
    """
    searched = searched or {}
    shown: dict[str, str | float | bool] = {
        **searched,
        **{name: value if isinstance(value, bool) else f"{value}" for name, value in values.items()},
    }
    metrics = {"AP": metric_tag("AP"), "AP50": metric_tag("AP50"), "AR100": metric_tag("AR100")}
    if masks:
        metrics["mask AP"] = metric_tag("AP", "segm")
    metrics["loss"] = losses.tag(losses.TOTAL)
    # Without a domain for each, which `summary_v2` requires and no single run knows: TensorBoard then offers a field
    # for a range or a pattern.
    experiment = api_pb2.Experiment(
        hparam_infos=[
            # TensorBoard sorts by name, but puts those that "differ" first.
            api_pb2.HParamInfo(
                name=name,
                type=_type(value),
                differs=index < max(_NUM_SHOWN, len(searched)),
            )
            for index, (name, value) in enumerate(shown.items())
        ],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name) for name, tag in metrics.items()
        ],
        time_created_secs=time.time(),
    )
    summary = _summary(hparams_metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))
    # Without a group, a session is its own group, named after its run instead of a hash of its values.
    summary.MergeFrom(summary_v2.hparams_pb(shown, trial_id=""))
    writers.write_summary(run_dir, 0, summary)


def _type(value: str | float | bool) -> api_pb2.DataType:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def end(run_dir: str, succeeded: bool, step: int) -> None:
    """Records in the table that training has ended, and how.

    Args:
      run_dir: as given to `write`.
      succeeded: whether training was completed.
      step: the training step at the end. Training that is resumed there removes this record (`writers.resume`).
    """
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    # TensorBoard ignores a second status, so the first must be among the events that resumed training drops: those of
    # later steps.
    writers.write_summary(run_dir, step + 1, _summary(hparams_metadata.SESSION_END_INFO_TAG, data))


def _summary(tag: str, data: plugin_data_pb2.HParamsPluginData) -> summary_pb2.Summary:
    metadata = hparams_metadata.create_summary_metadata(data)
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=hparams_metadata.NULL_TENSOR)]
    )
