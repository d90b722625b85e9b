"""Exported models against their checkpoints: what is lost is measured, and faults planted into exports are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from color_detectors import COLORS, labeled_set, model_of, with_masks, write_tflite

from made_evaluations import HEIGHT, WIDTH, Detector, Made, simulate
from od_eval import Pipeline
from od_eval.deployed.causes import ExportSettings
from od_eval.deployed.export_check import ExportCheck, check_models
from od_eval.deployed.labeled_set import LabeledSet
from od_eval.deployed.model import DeployedModel, DetectionsOfImage
from od_eval.deployed.quantized_layers import LayerDifference, quantized_layers
from od_eval.deployed.sample import sample_of_pipeline
from od_eval.evaluation.batch import GroundTruth
from od_eval.evaluation.coco_files import LeftOut
from od_eval.evaluation.labeled_image import LabeledImage
from od_eval.odapi import tflite_conversion
from od_eval.odapi.as_trained import Suppression, as_trained, resizer, suppression

Treat = Callable[[DetectionsOfImage], DetectionsOfImage]
NAMES = {number: name for number, name in enumerate(["one", "two", "three", "four", "five"], 1)}
MEDIOCRE = Detector(quality=0.7)
TRAINED = Suppression(iou_threshold=0.6, score_threshold=0.0)


def settings(
    *, exported: Suppression = TRAINED, exported_resizer: str = "fixed", **description: object
) -> ExportSettings:
    described = {"quantization": "none", "max_detections": 100, "regular_nms": True} | description
    return ExportSettings(described, TRAINED, exported, "fixed", exported_resizer)


def found_by(checked: ExportCheck) -> dict[str, object]:
    return {finding.kind: finding for finding in checked.findings}


# ---- The use of a model ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    return write_tflite(tmp_path_factory.mktemp("models") / "normal.tflite")


def checked_colors(file, folder, right, **changes):
    """A made detector with a model.json of its own, against one that is right."""
    checkpoint = model_of(right, folder / "right")
    exported = model_of(file, folder / "exported", **changes)
    return check_models(checkpoint, exported, lambda left_out: labeled_set(), settings())


def test_a_model_that_finds_the_same_is_right(normal, tmp_path, capsys):
    checked = checked_colors(normal, tmp_path, normal)
    assert checked.is_ok
    assert checked.findings == []
    score = checked.comparison.overall["AP"]
    assert (score.a, score.difference) == (pytest.approx(1), 0)
    assert "Evaluating the checkpoint, " in capsys.readouterr().out


def test_classes_that_are_one_off_are_found(normal, tmp_path):
    checked = checked_colors(normal, tmp_path, normal, class_offset=2)
    assert not checked.is_ok
    found = found_by(checked)
    assert checked.findings[0].kind == "ap_drop"
    assert found["ap_drop"].evidence["AP_lost"] == pytest.approx(1)
    assert found["class_off_by_one"].evidence["shift"] == -1
    assert not {"double_normalisation", "cause_of_loss_unknown"} & found.keys()


def test_input_that_is_normalised_twice_is_found(normal, tmp_path):
    twice = write_tflite(tmp_path / "normalizing.tflite", normalizes=True)
    checked = checked_colors(twice, tmp_path, normal)
    assert not checked.is_ok
    found = found_by(checked)
    assert "AP is 0.000 and that of the checkpoint 1.000" in str(found["ap_drop"])
    assert found["double_normalisation"].evidence["AP50_of_pixel_values"] == pytest.approx(1)
    assert not {"class_off_by_one", "cause_of_loss_unknown"} & found.keys()


# ---- Post-processing other than trained -----------------------------------------------------------------------------


class MadeModel(DeployedModel):
    """Gives made detections of an image, whose number is in its first pixel, treated in some way."""

    format, runtime, num_threads, file_size, categories = "tflite", "none", None, 0, NAMES

    def __init__(self, made: Made, treat: Treat, path: str):
        self.path = self.name = path
        self._made, self._treat = made, treat

    def _detect(self, image):
        found = self._made.detections
        rows = np.flatnonzero(found["image"] == int(image[0, 0, 0]))
        x, y, width, height = found["box"][rows].T
        boxes = np.stack([y, x, y + height, x + width], axis=1).astype(np.float32)
        scores = found["score"][rows].astype(np.float32)
        return self._treat(self._sorted(DetectionsOfImage(boxes, scores, found["category"][rows] + 1)))


def made_set(made: Made) -> LabeledSet:
    def images():
        for index in range(made.num_images):
            image = np.full([HEIGHT, WIDTH, 3], index, np.uint8)
            rows = made.objects["image"] == index
            x, y, width, height = made.objects["box"][rows].T
            boxes = [np.stack([y, x, y + height, x + width], axis=1)]
            objects = GroundTruth(boxes=boxes, classes=[made.objects["category"][rows] + 1])
            yield LabeledImage(index, image, (HEIGHT, WIDTH), objects)

    return LabeledSet("made", NAMES, images(), made.num_images, masks=False)


def checked_made(
    treat: Treat, of_export: ExportSettings, *, detector: Detector = MEDIOCRE, before: Treat = lambda found: found
) -> ExportCheck:
    """Made detections as a checkpoint gives them, treated `before`, and as an export gives them, treated."""
    made = simulate(detector, images=100)
    checkpoint, exported = MadeModel(made, before, "checkpoint"), MadeModel(made, treat, "exported")
    return check_models(checkpoint, exported, lambda left_out: made_set(made), of_export)


def rows_of(found: DetectionsOfImage, rows) -> DetectionsOfImage:
    return DetectionsOfImage(found.boxes[rows], found.scores[rows], found.classes[rows])


def iou_of(a, b) -> float:
    sides = [max(min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]), 0) for axis in (0, 1)]
    intersection = sides[0] * sides[1]
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)]
    return intersection / (sum(areas) - intersection)


def suppressed(found: DetectionsOfImage, iou: float, *, per_class: bool) -> DetectionsOfImage:
    """Greedy non-maximum suppression, in a loop."""
    kept: list[int] = []
    for row in range(len(found.scores)):  # they are sorted
        others = [one for one in kept if not per_class or found.classes[one] == found.classes[row]]
        if all(iou_of(found.boxes[one], found.boxes[row]) <= iou for one in others):
            kept.append(row)
    return rows_of(found, kept)


def with_scores(found: DetectionsOfImage, scores) -> DetectionsOfImage:
    return found._replace(scores=scores.astype(np.float32))


def assert_is_the_cause(checked: ExportCheck, kind: str):
    """Exactly this cause is told, and it explains all that is lost."""
    assert not checked.is_ok
    first, cause = checked.findings
    assert (first.kind, first.severity, cause.kind) == ("ap_drop", "error", kind)
    lost = -checked.comparison.overall["AP"].difference
    assert lost > 0.02
    assert first.evidence["AP_lost"] == pytest.approx(lost)
    assert cause.evidence["AP_lost"] == pytest.approx(lost, abs=1e-6)
    return cause


def test_suppression_over_all_classes_is_found_where_the_checkpoint_has_it_per_class():
    fast = lambda found: suppressed(found, 0.6, per_class=False)  # noqa: E731
    regular = lambda found: suppressed(found, 0.6, per_class=True)  # noqa: E731
    detector = Detector(0.6, wrong_class=0.3)
    checked = checked_made(fast, settings(regular_nms=False), detector=detector, before=regular)
    cause = assert_is_the_cause(checked, "suppression_over_all_classes")
    assert "export with --ssd_use_regular_nms" in str(cause)
    # The same loss, where the export says that it suppresses per class: that is no cause then.
    checked = checked_made(fast, settings(), detector=detector, before=regular)
    assert [finding.kind for finding in checked.findings] == ["ap_drop", "cause_of_loss_unknown"]
    # And where nothing is lost, nothing is told.
    checked = checked_made(regular, settings(regular_nms=False), detector=detector, before=regular)
    assert (checked.is_ok, checked.findings) == (True, [])


def test_another_threshold_of_the_suppression_is_found():
    detector = Detector(0.7, duplicates=0.9)
    looser = checked_made(
        lambda found: found,
        settings(exported=Suppression(0.99, 0.0)),
        detector=detector,
        before=lambda found: suppressed(found, 0.6, per_class=True),
    )
    cause = assert_is_the_cause(looser, "other_suppression_threshold")
    assert "overlap by more than 0.99, and the checkpoint by more than 0.6" in str(cause)
    stricter = checked_made(
        lambda found: suppressed(found, 0.02, per_class=False),
        settings(exported=Suppression(0.02, 0.0), regular_nms=False),
    )
    assert "suppression_over_all_classes" in found_by(stricter)


def test_too_few_detections_are_found_and_the_images_named_that_have_more_objects():
    checked = checked_made(lambda found: rows_of(found, slice(4)), settings(max_detections=4))
    cause = assert_is_the_cause(checked, "too_few_detections")
    made = simulate(Detector(0.7), images=100)
    counts = np.bincount(made.objects["image"], minlength=100)
    assert cause.evidence["images_with_more"] == (counts > 4).sum() > 10
    assert counts[cause.images[0]] == cause.evidence["most_objects"] == counts.max()
    assert "export with --max_detections=100" in str(cause)


def test_a_score_threshold_is_found():
    checked = checked_made(lambda found: rows_of(found, found.scores >= 0.6), settings(exported=Suppression(0.6, 0.6)))
    cause = assert_is_the_cause(checked, "score_threshold")
    assert "it drops detections with scores below 0.6" in str(cause)


def test_scores_that_are_tied_are_found():
    checked = checked_made(
        lambda found: with_scores(found, np.rint(found.scores * 2) / 2), settings(quantization="int8")
    )
    cause = assert_is_the_cause(checked, "tied_scores")
    assert cause.evidence["different_scores"] == 3
    assert cause.evidence["share"] > 0.99 > 0.01 > cause.evidence["share_of_checkpoint"]
    assert "--quantize=float16" in str(cause)


def test_scores_that_saturate_are_found():
    checked = checked_made(
        lambda found: with_scores(found, np.minimum(found.scores, 0.3)), settings(quantization="full_int8")
    )
    cause = assert_is_the_cause(checked, "saturated_scores")
    assert cause.evidence["largest"] == pytest.approx(0.3)
    assert cause.evidence["share"] > 0.8
    assert cause.evidence["share_of_checkpoint"] == pytest.approx(0.01)


def test_few_images_of_calibration_and_another_image_size_are_told_as_possible_causes():
    calibration = {"num_images": 7, "num_showing": {"one": 4, "two": 3, "three": 0, "four": 1}}

    def broken(found):
        return with_scores(found, np.random.default_rng(0).permutation(found.scores))

    of_export = settings(quantization="int8", calibration=calibration, exported_resizer="other")
    found = found_by(checked_made(broken, of_export))
    assert list(found) == ["ap_drop", "other_image_size", "calibration"]
    assert "it was calibrated with 7 images, and none shows three, five" in str(found["calibration"])
    assert {found[kind].sureness for kind in list(found)[1:]} == {"possible"}
    enough = {"num_images": 100, "num_showing": dict.fromkeys(NAMES.values(), 20)}
    found = found_by(checked_made(broken, settings(quantization="int8", calibration=enough)))
    assert list(found) == ["ap_drop", "cause_of_loss_unknown"]


def test_a_checkpoint_that_finds_nothing_can_lose_nothing():
    checked = checked_made(lambda found: found, settings(), before=lambda found: rows_of(found, slice(0)))
    assert checked.is_ok
    assert [finding.kind for finding in checked.findings] == ["nothing_to_compare"]


# ---- Masks ----------------------------------------------------------------------------------------------------------


class OfMasks(DeployedModel):
    """Finds the rectangle of an image of `color_detectors`, with a part of its mask."""

    format, runtime, num_threads, file_size, categories, predicts_masks = "made", "none", None, 0, COLORS, True

    def __init__(self, path: str, rows: slice):
        self.path = self.name = path
        self._rows = rows

    def _detect(self, image):
        mask = (image.max(axis=2) > 0).astype(np.uint8)
        rows, columns = np.nonzero(mask)
        box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        part = np.zeros_like(mask)
        part[rows[self._rows], columns[self._rows]] = 1
        color = image.max(axis=(0, 1)).argmax() + 1
        return DetectionsOfImage(np.array([box], np.float32), np.array([0.9]), np.array([color]), part[np.newaxis])


def test_masks_that_lose_are_told_also_where_boxes_do_not():
    def checked(rows: slice, labeled: Callable[[LabeledSet], LabeledSet]) -> ExportCheck:
        models = OfMasks("checkpoint", slice(None)), OfMasks("exported", rows)
        return check_models(*models, lambda left_out: labeled(labeled_set()), settings())

    same = checked(slice(None), with_masks)
    assert (same.is_ok, same.of_masks.iou_type, same.of_masks.overall["AP"].a) == (True, "segm", pytest.approx(1))
    worse = checked(slice(None, None, 2), with_masks)  # an IoU of 0.5: right at the first of ten thresholds
    assert worse.comparison.overall["AP"].difference == 0
    assert worse.of_masks.overall["AP"].difference == pytest.approx(-0.9)
    assert [finding.kind for finding in worse.findings] == ["ap_drop", "cause_of_loss_unknown"]
    assert "AP of masks is 0.100 and that of the checkpoint 1.000" in str(worse.findings[0])
    assert not worse.is_ok
    without = checked(slice(None, None, 2), lambda labeled: labeled)
    assert (without.is_ok, without.of_masks) == (True, None)


# ---- Layers in int8 -------------------------------------------------------------------------------------------------


def test_the_layer_that_int8_cannot_hold_is_named_first(tmp_path):
    """The first layer has a channel a thousand times as large as the others, which the second one leaves out."""

    class Model(tf.Module):
        def __init__(self):
            random = np.random.default_rng(0)
            kernel = random.normal(size=(3, 3, 3, 4)) * [1, 1, 1, 1000]
            self.kernel = tf.Variable(kernel.astype(np.float32))
            small = random.normal(size=(1, 1, 4, 8)) * [[1], [1], [1], [0]]
            self.small = tf.Variable(small.astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 3])])
        def serve(self, image):
            with tf.name_scope("wide"):
                values = tf.nn.conv2d(image, self.kernel, 1, "SAME")
            with tf.name_scope("of_small_channels"):
                return tf.nn.softmax(tf.nn.conv2d(values, self.small, 1, "SAME"))

    folder = str(tmp_path / "saved_model")
    tf.saved_model.save(Model(), folder)
    random = np.random.default_rng(1)
    images = [tf.constant(random.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(4)]
    of_input = tflite_conversion.ImageInput(
        lambda image: tf.cast(image, tf.float32)[tf.newaxis] / 255, [1, 16, 16, 3], [0.0] * 3, [255.0] * 3
    )
    for quantization in ("int8", "full_int8"):
        quantized = tflite_conversion.convert(folder, quantization, of_input, lambda: iter(images))
        inputs = [
            image.numpy()[np.newaxis] if quantization == "full_int8" else of_input.of_image(image).numpy()
            for image in images
        ]
        worst, best = quantized_layers(quantized, folder, inputs)
        assert isinstance(worst, LayerDifference)
        assert (worst.operator, best.operator) == ("CONV_2D", "CONV_2D")
        assert "of_small_channels" in worst.layer
        assert "wide" in best.layer
        # A step of the large channel is about as large as the others are.
        assert worst.difference > 0.5 > 0.05 > best.difference > 0


# ---- The sample, and the config of a checkpoint ----------------------------------------------------------------------


def test_a_sample_is_spread_evenly_and_always_the_same(ssd_config, config_overrides, shapes, tmp_path):
    overrides = [
        *config_overrides,
        f"eval_input_reader.tf_record_input_reader.input_path={shapes}/train-?????-of-?????",
    ]
    Pipeline.load(ssd_config, overrides).save(tmp_path)
    config = str(tmp_path / "pipeline.config")
    every = [image.id for image in sample_of_pipeline(config, 99, LeftOut()).images]
    assert len(every) == 16
    for num in (1, 5, 15):
        labeled = sample_of_pipeline(config, num, LeftOut())
        chosen = [every.index(image.id) for image in labeled.images]
        assert len(chosen) == labeled.num_images == num
        assert chosen == [image for image in chosen if image in sorted(chosen)]
        gaps = np.diff([-1, *chosen])
        assert np.ptp(gaps) <= 1
        assert chosen[-1] == 15


def test_the_checkpoint_detects_as_it_was_trained_whatever_the_export_changes(ssd_config, config_overrides):
    nms = "model.ssd.post_processing.batch_non_max_suppression"
    trained = Pipeline.load(ssd_config, config_overrides)
    changes = [
        f"{nms}.iou_threshold=0.25",
        f"{nms}.score_threshold=0.5",
        "model.ssd.image_resizer={fixed_shape_resizer {height: 64 width: 64}}",
        "eval_config.batch_size=3",
    ]
    exported = Pipeline.load(ssd_config, [*config_overrides, *changes])
    of_checkpoint = as_trained(exported, trained)
    assert suppression(of_checkpoint) == suppression(trained) != suppression(exported)
    assert dataclasses.astuple(suppression(exported)) == (0.25, 0.5)
    assert resizer(of_checkpoint) == resizer(trained) == "fixed_shape_resizer { height: 96 width: 96 }"
    assert resizer(exported) == "fixed_shape_resizer { height: 64 width: 64 }"
    assert of_checkpoint.config.eval_config.batch_size == 3
    assert exported.config.model.ssd.image_resizer.fixed_shape_resizer.height == 64, "it is not changed"


def test_a_centernet_suppresses_nothing_unless_its_config_asks_for_it(config_overrides):
    config = Path(__file__).parents[2] / "pipeline_configs" / "centernet_resnet18_fpn_128x128.config"
    trained = Pipeline.load(config, config_overrides)
    asked = "model.center_net.post_processing.batch_non_max_suppression.iou_threshold=0.25"
    exported = Pipeline.load(config, [*config_overrides, asked])
    assert (suppression(trained), suppression(exported).iou_threshold) == (None, 0.25)
    assert suppression(as_trained(exported, trained)) is None
    assert not as_trained(trained, trained).config.model.center_net.HasField("post_processing")
