"""A training that one bad record of 1,000 breaks, and how its batch is made again."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow.python.framework.config import disable_op_determinism

from od_eval import ODEvalError, Pipeline
from od_eval.data.shapes import write_shapes
from od_eval.odapi.object_values import ObjectValues
from od_eval.odapi.record_ids import find_records, ids_of
from od_eval.programs.replay import as_json, lines_of
from od_eval.training.batch_record import RecordedBatches
from od_eval.training.replay import Replay, ReplayedImage, Usual, _stands_out, replay
from od_eval.training.train import train

NUM_RECORDS, BAD = 1000, 101
BATCH, SEED = 8, 5


def write_records(folder, change):
    """1,000 records in two files, of which one is changed; with the label map."""
    write_shapes(folder / "shapes", num_train=25, num_validation=0, image_size=96, overwrite=True)
    drawn = [
        one.numpy()
        for path in sorted((folder / "shapes").glob("train-*"))
        for one in tf.data.TFRecordDataset(str(path))
    ]
    writers = [tf.io.TFRecordWriter(str(folder / f"train-{number}.record")) for number in range(2)]
    for number, serialized in zip(range(NUM_RECORDS), itertools.cycle(drawn), strict=False):
        example = example_pb2.Example.FromString(serialized)
        del example.features.feature["image/source_id"]  # without one, the Object Detection API draws one
        example.features.feature["image/filename"].bytes_list.value[0] = b"%04d.jpg" % number
        if number == BAD:
            change(example.features.feature)
        writers[number % 2].write(example.SerializeToString())
    for writer in writers:
        writer.close()


def weight_that_is_no_number(features):
    """Of the last object."""
    num_objects = len(features["image/object/class/label"].int64_list.value)
    features["image/object/weight"].float_list.value[:] = [*[1.0] * (num_objects - 1), math.nan]


def single_point(features):
    """The only object is a point: its logarithmic size, which the box coder learns, is that of its epsilon."""
    for name, feature in features.items():
        if name.startswith("image/object/"):
            values = getattr(feature, feature.WhichOneof("kind")).value
            values[:] = [0.5] if "/bbox/" in name else values[:1]


def overrides(folder):
    return [
        f"train_config.batch_size={BATCH}",
        f"train_input_reader.tf_record_input_reader.input_path={folder}/train-?.record",
        f"train_input_reader.label_map_path={folder}/shapes/label_map.pbtxt",
        f"eval_input_reader.label_map_path={folder}/shapes/label_map.pbtxt",
        "train_input_reader.shuffle_buffer_size=8",
    ]


def train_into(model_dir, ssd_config, folder, **kwargs):
    train(
        str(ssd_config),
        str(model_dir),
        overrides=overrides(folder),
        eval_every_n=0,
        record_summaries=False,
        **{"num_train_steps": 200, "checkpoint_every_n": 20, **kwargs},
    )


@pytest.fixture(scope="module")
def broken(ssd_config, tmp_path_factory):
    """A training with a seed that a record breaks: (folder of its records, what it said)."""
    folder = tmp_path_factory.mktemp("broken")
    write_records(folder, weight_that_is_no_number)
    with pytest.raises(ODEvalError) as error:
        train_into(folder / "run", ssd_config, folder, seed=SEED, steps_per_execution=3)
    disable_op_determinism()
    return folder, str(error.value)


def test_the_record_that_breaks_a_training_is_named_with_file_object_and_value(broken):
    folder, message = broken
    step = int(re.search(r"not finite at step (\d+)", message)[1])
    assert message.endswith(f": od-eval replay --model_dir={folder / 'run'} --step={step}")
    replayed = replay(str(folder / "run"), step)
    disable_op_determinism()

    finding = replayed.finding
    assert (finding.kind, finding.severity, finding.sureness) == ("record_breaks_loss", "error", "certain")
    assert str(finding).startswith(f"record {BAD // 2} of '{folder}/train-{BAD % 2}.record' (0{BAD}.jpg): its ")
    last = len(replayed.images[0].objects) - 1
    assert f"as 'image/object/weight' of object {last} is nan" in str(finding)
    assert replayed.is_exact
    assert (replayed.steps, len(replayed.images), replayed.num_missing) == ([step], BATCH, 0)
    assert replayed.checkpoint == str(folder / "run" / "ckpt-1")
    blamed, *others = replayed.images
    assert blamed.name == f"0{BAD}.jpg"
    assert not any(image.stands_out for image in others)
    assert [math.isnan(loss) for loss in blamed.object_losses] == [*[False] * last, True]

    lines = list(lines_of(replayed))
    assert lines[1].split()[0] == str(step)
    assert f"0{BAD}.jpg" in lines[1]
    assert lines[-1].startswith("error: record")
    assert json.loads(as_json(replayed))["finding"]["kind"] == "record_breaks_loss"


@pytest.fixture(scope="module")
def resumed(broken, ssd_config):
    """The same training continued, without a seed, when the record has another fault: (folder, its id, its past)."""
    folder, _ = broken
    before = RecordedBatches(str(folder / "run"))
    write_records(folder, single_point)
    (record,) = records_of(folder, f"0{BAD}.jpg")
    train_into(folder / "run", ssd_config, folder, num_train_steps=25, steps_per_execution=1)
    return folder, int(ids_of([record])[0]), before


def records_of(folder, name):
    serialized = [
        one.numpy() for path in sorted(folder.glob("train-*.record")) for one in tf.data.TFRecordDataset(str(path))
    ]
    return [one for one in serialized if name.encode() in one]


def test_a_step_trained_again_has_its_new_batch_and_a_finite_spike_before_a_step_is_found(resumed):
    folder, bad, before = resumed
    recorded = RecordedBatches(str(folder / "run"))
    assert recorded.batch(1).seed is None
    assert before.batch(1).seed == SEED
    assert recorded.batch(1).ids.tolist() != before.batch(1).ids.tolist()
    (spike,) = [step for step in range(1, 26) if bad in recorded.batch(step).ids]

    replayed = replay(str(folder / "run"), spike + 1)
    assert replayed.steps == list(range(replayed.step, spike - 1, -1))
    finding = replayed.finding
    assert (finding.kind, finding.severity, finding.sureness) == ("record_stands_out", "warning", "likely")
    assert f"(0{BAD}.jpg): its total_loss in the batch of step {spike} is " in str(finding)
    assert ", as the box of object 0 has no area; look at" in str(finding)
    assert finding.evidence["total_loss"] > 10 * finding.evidence["p90"]
    assert not replayed.is_exact
    assert [image.name for image in replayed.images if image.stands_out] == [f"0{BAD}.jpg"]


def test_a_step_that_was_not_recorded_is_refused_with_those_that_were(resumed):
    with pytest.raises(ODEvalError, match=r"step 26 is not recorded in .*; recorded are steps 1 to 25\."):
        replay(str(resumed[0] / "run"), 26)


def test_a_folder_without_recorded_batches_is_refused(tmp_path):
    with pytest.raises(ODEvalError, match="has no recorded batches"):
        replay(str(tmp_path), 3)


def test_records_are_found_by_the_ids_that_the_training_input_gives_them(resumed, ssd_config):
    folder = resumed[0]
    recorded = RecordedBatches(str(folder / "run"))
    reader = Pipeline.load(str(ssd_config), overrides(folder)).config.train_input_reader
    wanted = {int(one) for step in range(1, 26) for one in recorded.batch(step).ids}
    found, others = find_records(reader, wanted, 32)
    assert found.keys() == wanted
    assert len({str(one) for one in others} - {str(one) for one in found.values()}) == 32
    assert all(ids_of([record.serialized]) == [one] for one, record in found.items())


def test_records_that_were_written_anew_are_missed_in_a_sentence(resumed, tmp_path):
    folder = resumed[0]
    config = (folder / "run" / "pipeline.config").read_text()
    other = tmp_path / "run"
    (other / "train").mkdir(parents=True)
    (folder / "run" / "train" / "batches").rename(other / "train" / "batches")
    try:
        (other / "pipeline.config").write_text(config.replace("train-?.record", "shapes/train-*"))
        with pytest.raises(ODEvalError, match="none of the 8 records of step 2 is in the files"):
            replay(str(other), 2)
    finally:
        (other / "train" / "batches").rename(folder / "run" / "train" / "batches")


# ---- What is said ---------------------------------------------------------------------------------------------------


def image(**changes):
    losses = {"classification_loss": 1.0, "localization_loss": 1.0, "total_loss": 2.0, "gradient_norm": 4.0}
    return ReplayedImage(7, "record 1 of 'a'", "a.jpg", losses, False, [], **changes)


def made(images, **changes):
    usual = {"total_loss": Usual(2.0, 3.0), "gradient_norm": Usual(4.0, 6.0)}
    whole = Replay("run", 7, [7, 6, 5], "run/ckpt-3", 5, False, images, usual, 32, 0, 0, False)
    return dataclasses.replace(whole, **changes)


def test_a_healthy_batch_blames_no_record():
    finding = made([image()] * 3).finding
    assert (finding.kind, finding.severity) == ("no_record_to_blame", "note")
    assert str(finding) == (
        "none of the 3 images of steps 5 to 7 stands out: the largest total_loss is 2, and the median of 32 other"
        " images 2, with the weights of ckpt-3 (step 5), so a loss that grew or broke there is due to the weights,"
        " which training moved too far; lower the learning rate or lengthen its warm-up, or clip gradients."
    )
    assert finding.settings == ("train_config.gradient_clipping_by_norm=10.0",)
    assert made([image()], clips_gradients=True).finding.settings == ()


def test_where_other_images_have_no_finite_loss_either_the_weights_are_to_blame():
    broken = dataclasses.replace(image(), stands_out=True, losses={"total_loss": math.nan, "gradient_norm": 1.0})
    assert made([broken], num_others_broken=17).finding.kind == "weights_are_broken"
    assert made([broken], num_others_broken=16).finding.kind == "record_breaks_loss"


def test_the_object_that_has_most_of_the_loss_alone_is_the_cause_if_the_record_shows_none():
    objects = [ObjectValues("cat", (0, 0, 1, 1), 1.0, False), ObjectValues("dog", (0, 0, 1, 1), 1.0, False)]
    losses = {**image().losses, "total_loss": 90.0}
    spike = dataclasses.replace(image(objects=objects, object_losses=[2.0, 88.0]), losses=losses, stands_out=True)
    assert ", of which object 1 (dog) alone has 88; look at" in str(made([spike]).finding)
    even = dataclasses.replace(spike, object_losses=[44.0, 43.0])
    assert "alone has" not in str(made([even]).finding)


def test_an_image_stands_out_at_ten_times_what_nine_of_ten_others_have():
    others = [{"total_loss": value, "gradient_norm": 1.0} for value in np.linspace(1, 2, 11)]
    assert _stands_out({"total_loss": 19.1, "gradient_norm": 1.0}, others)  # the 90th percentile is 1.9
    assert not _stands_out({"total_loss": 18.9, "gradient_norm": 1.0}, others)
    assert _stands_out({"total_loss": 1.0, "gradient_norm": 10.1}, others)
    assert _stands_out({"total_loss": 1.0, "gradient_norm": math.inf}, others)
    assert not _stands_out({"total_loss": 1.0, "gradient_norm": 1.0}, [])


def test_of_healthy_images_with_losses_as_wide_as_e_few_batches_of_8_have_one_that_stands_out():
    random = np.random.default_rng(1)
    draws = [[{"total_loss": one, "gradient_norm": 1.0} for one in random.lognormal(size=39)] for _ in range(500)]
    flagged = sum(_stands_out(losses, rest[:32] + rest[33:]) for rest in draws for losses in rest[32:33])
    assert flagged <= 3  # of 500, where 1 in 6,000 is expected for an exact percentile
