"""The HParams tab, as TensorBoard's own plugin shows it."""

from __future__ import annotations

import pytest
from tensorboard import context as tb_context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from od_eval.tensorboard import hparams, writers

VALUES = {"architecture": "ssd", "batch_size": 8, "learning_rate": 0.5, "bfloat16": False, "a": 1, "b": 2}


class Shown:
    """What TensorBoard shows of the runs in a folder."""

    def __init__(self, folder):
        multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
        provider = MultiplexerDataProvider(multiplexer, str(folder))
        context = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(folder)))
        request = tb_context.RequestContext()
        self.experiment = get_experiment.Handler(
            request, context, "", api_pb2.GetExperimentRequest(include_metrics=True)
        ).run()
        statuses = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=[status for status in api_pb2.Status.values()], slice_size=100
        )
        groups = list_session_groups.Handler(request, context, "", statuses).run().session_groups
        self.rows = {group.name: group for group in groups}

    def metrics(self, row: str) -> dict[str, float]:
        return {value.name.tag: value.value for value in self.rows[row].metric_values}


def write_run(folder, name: str, ap: float, **values) -> str:
    run_dir = str(folder / name / "eval")
    hparams.write(run_dir, {**VALUES, **values})
    for step in (1, 2):
        writers.write_scalars(run_dir, step, {"DetectionBoxes_Precision/mAP": ap * step, "Loss/total_loss": 3.0})
    return run_dir


def test_runs_are_rows_with_their_values_and_their_newest_metrics(tmp_path):
    write_run(tmp_path, "a", 0.25)
    write_run(tmp_path, "b", 0.125, batch_size=16)
    shown = Shown(tmp_path)
    assert shown.metrics("a/eval") == {"DetectionBoxes_Precision/mAP": 0.5, "Loss/total_loss": 3.0}
    assert shown.metrics("b/eval")["DetectionBoxes_Precision/mAP"] == 0.25
    # Numbers as people write them: TensorBoard would show 8 as 8.0000.
    assert shown.rows["a/eval"].hparams["batch_size"].string_value == "8"
    assert shown.rows["b/eval"].hparams["batch_size"].string_value == "16"
    assert shown.rows["a/eval"].hparams["learning_rate"].string_value == "0.5"
    assert shown.rows["a/eval"].hparams["architecture"].string_value == "ssd"
    assert shown.rows["a/eval"].hparams["bfloat16"].bool_value is False


def test_runs_with_the_same_values_are_rows_of_their_own(tmp_path):
    write_run(tmp_path, "a", 0.25)
    write_run(tmp_path, "b", 0.125)
    assert sorted(Shown(tmp_path).rows) == ["a/eval", "b/eval"]


def test_the_first_five_values_come_first_in_the_table(tmp_path):
    write_run(tmp_path, "a", 0.25)
    names = [info.name for info in Shown(tmp_path).experiment.hparam_infos]
    assert set(names[:5]) == set(list(VALUES)[:5])


def test_what_is_searched_comes_first_and_its_numbers_stay_numbers(tmp_path):
    searched = {"momentum": 0.25, "augmentation": "none", "nesterov": True, "steps": 3, "size": 96, "rate": 0.1}
    hparams.write(str(tmp_path / "eval"), VALUES, searched=searched)
    shown = Shown(tmp_path)
    infos = {info.name: info for info in shown.experiment.hparam_infos}
    assert {name for name, info in infos.items() if info.differs} == set(searched)
    assert infos["momentum"].type == infos["steps"].type == api_pb2.DATA_TYPE_FLOAT64
    values = shown.rows["eval"].hparams
    assert (values["momentum"].number_value, values["steps"].number_value) == (0.25, 3)
    assert (values["augmentation"].string_value, values["nesterov"].bool_value) == ("none", True)
    assert values["batch_size"].string_value == "8"


@pytest.mark.parametrize("masks", [False, True])
def test_the_metrics_of_masks_are_in_the_table_where_there_are_some(tmp_path, masks):
    hparams.write(str(tmp_path / "eval"), VALUES, masks=masks)
    names = [info.display_name for info in Shown(tmp_path).experiment.metric_infos]
    assert names == ["AP", "AP50", "AR100", *(["mask AP"] if masks else []), "loss"]


@pytest.mark.parametrize(("succeeded", "status"), [(True, api_pb2.STATUS_SUCCESS), (False, api_pb2.STATUS_FAILURE)])
def test_the_table_says_how_a_training_ended(tmp_path, succeeded, status):
    run_dir = write_run(tmp_path, "a", 0.25)
    assert Shown(tmp_path).rows["a/eval"].sessions[0].status == api_pb2.STATUS_UNKNOWN
    hparams.end(run_dir, succeeded, step=2)
    assert Shown(tmp_path).rows["a/eval"].sessions[0].status == status


def test_a_training_that_failed_and_was_resumed_ends_well(tmp_path):
    run_dir = write_run(tmp_path, "a", 0.25)
    hparams.end(run_dir, succeeded=False, step=2)
    writers.resume(run_dir, 2)
    hparams.end(run_dir, succeeded=True, step=4)
    shown = Shown(tmp_path)
    assert shown.rows["a/eval"].sessions[0].status == api_pb2.STATUS_SUCCESS
    assert shown.metrics("a/eval")["DetectionBoxes_Precision/mAP"] == 0.5
