"""What a training evaluates."""

import shutil

from od_eval import Pipeline
from od_eval.training.evaluation_plan import EvaluationPlan


def test_each_dataset_is_read_once(tmp_path, shapes, ssd_config, config_overrides):
    records = shutil.copytree(shapes, tmp_path / "records")
    pipeline = Pipeline.load(ssd_config, [one.replace(str(shapes), str(records)) for one in config_overrides])
    plan = EvaluationPlan(on_train_data=True, sample_1_of_n_train_examples=1)
    wrapped = []
    callbacks = plan.evaluations(
        *(pipeline, plan.check(pipeline), str(tmp_path)),
        checkpoint=lambda step: None,
        interruptible=lambda batches: wrapped.append(batches) or batches,
        on_error="raise",
        findings=list,
    )
    datasets = [callback._evaluations._dataset for callback in callbacks]
    numbers = [sum(1 for _ in batches) for batches in datasets]
    assert numbers == [4, 16]
    shutil.rmtree(records)
    assert [sum(1 for _ in batches) for batches in datasets] == numbers
    assert len(wrapped) == 4, "each pass can be interrupted"


def test_sets_without_a_training_are_those_of_the_training(tmp_path, ssd_config, config_overrides):
    pipeline = Pipeline.load(ssd_config, [*config_overrides, "eval_input_reader[0].name=day"])
    plan = EvaluationPlan(on_train_data=True, save_detections=True)
    options = plan.check(pipeline)
    callbacks = plan.evaluations(
        pipeline, options, str(tmp_path), lambda step: None, lambda batches: batches, "raise", list
    )
    sets = plan.evaluation_sets(pipeline, options, str(tmp_path), list)
    assert [one.run for one in sets] == [one.run for one in callbacks] == ["eval/day", "eval_train"]
    assert [one.options for one in sets] == [one.options for one in callbacks]
    assert all(one.options.save_detections for one in sets)
