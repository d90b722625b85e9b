"""The same detections give the same numbers here and in the Object Detection API, for each of its metrics sets.

Detections and groundtruth are made, in the form that a model and the evaluation input give them. The Object Detection
API's own evaluators get each image without padding: its loop hands them groundtruth padded to 100 boxes, which those of
Pascal VOC and Open Images take for objects of class 1 (tensorflow/models issue 9471).
"""

import numpy as np
import pytest
import tensorflow as tf

from od_eval import ODEvalError
from od_eval.evaluation.evaluator import Evaluator
from od_eval.odapi.eval_batches import evaluation_batch
from od_eval.odapi.eval_config import RequestedEvaluation
from od_eval.odapi.further_metrics import FurtherEvaluator
from od_eval.text_proto import parse_text_proto

METRICS_SETS = (
    "coco_detection_metrics",
    "coco_mask_metrics",
    "lvis_mask_metrics",
    "oid_challenge_detection_metrics",
    "oid_challenge_segmentation_metrics",
    "oid_V2_detection_metrics",
    "pascal_voc_detection_metrics",
    "pascal_voc_instance_segmentation_metrics",
    "precision_at_recall_detection_metrics",
    "weighted_pascal_voc_detection_metrics",
    "weighted_pascal_voc_instance_segmentation_metrics",
)
KEYPOINTS = "parameterized_metric { coco_keypoint_metrics { class_label: 'person' %s } }"
SIGMAS = "".join(
    f"keypoint_label_to_sigmas {{ key: '{name}' value: {sigma} }}"
    for name, sigma in {"nose": 0.03, "left hand": 0.3, "right hand": 0.2}.items()
)

LABEL_MAP = """
item { id: 1 name: 'person' frequency: FREQUENT
  keypoints { id: 0 label: 'nose' } keypoints { id: 1 label: 'left hand' } keypoints { id: 2 label: 'right hand' } }
item { id: 2 name: 'dög' frequency: COMMON }
item { id: 3 name: 'cat' frequency: RARE }
item { id: 4 name: 'tree' display_name: 'Tree' frequency: COMMON }
"""
NUM_CLASSES = 4
CAT = 3  # a class that is detected, but never there
NUM_KEYPOINTS = 3
IMAGE_SIZE = (64, 96)  # as the model sees it
FILE_SIZES = [(128, 192), (256, 384), (96, 144), (64, 96), (320, 480)]
EMPTY, NOTHING_FOUND = 2, 3  # the image without objects, and that without detections


# ---- What is there, and what was found ------------------------------------------------------------------------------


def boxes_around(centers, sizes):
    centers, sizes = np.asarray(centers), np.asarray(sizes)
    boxes = np.concatenate((centers - sizes / 2, centers + sizes / 2), axis=1)
    return np.clip(boxes, 0, 1).astype(np.float32)


def drawn(box, size):
    """An ellipse in a box, as a mask."""
    y, x = np.meshgrid(*((np.arange(side) + 0.5) / side for side in size), indexing="ij")
    center, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1e-6)
    return (((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 <= 1).astype(np.uint8)


def made_image(number):
    """Labels and detections of an image, without the dimension of the batch."""
    random = np.random.default_rng(number)
    num = 0 if number == EMPTY else 8
    centers = random.uniform(0.2, 0.8, (num, 2))
    sizes = random.uniform(0.08, 0.6, (num, 2))
    boxes = boxes_around(centers, sizes)
    classes = np.array([1, 1, 1, 2, 2, 4, 4, 1])[:num]
    visible = random.random((num, NUM_KEYPOINTS)) < 0.7
    visible[:1] = False
    keypoints = centers[:, np.newaxis] + random.uniform(-0.1, 0.1, (num, NUM_KEYPOINTS, 2))
    labels = {
        "num_groundtruth_boxes": np.int32(num),
        "groundtruth_boxes": boxes,
        "groundtruth_classes": np.eye(NUM_CLASSES, dtype=np.float32)[classes - 1],
        "groundtruth_weights": np.ones(num, np.float32),
        "groundtruth_is_crowd": np.arange(num) == 3,
        "groundtruth_difficult": (np.arange(num) == 1).astype(np.int32),
        "groundtruth_group_of": np.arange(num) == 5,
        "groundtruth_area": np.where(np.arange(num) == 2, 0, 1500).astype(np.float32),
        "groundtruth_instance_masks": np.array([drawn(box, IMAGE_SIZE) for box in boxes], np.float32).reshape(
            num, *IMAGE_SIZE
        ),
        "groundtruth_keypoints": np.where(visible[..., np.newaxis], keypoints, np.nan).astype(np.float32),
        "groundtruth_keypoint_visibilities": visible,
        "groundtruth_image_classes": np.array([0, 1, 0, 1], np.float32),
        "groundtruth_verified_neg_classes": np.array([0, 0, 1, number % 2], np.float32),
        "groundtruth_not_exhaustive_classes": np.array([0, number % 2, 0, 0], np.float32),
    }
    # Most objects are found, some twice, some as another class; and there are some that nobody has annotated.
    found = np.concatenate((np.arange(num), np.arange(num)[::2]))
    centers = np.concatenate((centers[found] + random.normal(0, 0.02, (len(found), 2)), random.random((6, 2))))
    sizes = np.concatenate((sizes[found] * random.uniform(0.8, 1.25, (len(found), 2)), np.full((6, 2), 0.2)))
    classes = np.concatenate((classes[found], [1, 2, CAT, CAT, 4, 4]))
    classes[4:5] = CAT
    num = len(classes)
    boxes = boxes_around(centers, sizes)
    keypoints = centers[:, np.newaxis] + random.uniform(-0.1, 0.1, (num, NUM_KEYPOINTS, 2))
    keypoints[: len(found)] = np.where(
        random.random((len(found), 1, 1)) < 0.7,
        np.nan_to_num(labels["groundtruth_keypoints"][found]) + random.normal(0, 0.01, (len(found), NUM_KEYPOINTS, 2)),
        keypoints[: len(found)],
    )
    within_boxes = np.where(np.arange(num)[:, np.newaxis] % 3 == 0, [0, 0, 1, 0.5], [0, 0, 1, 1])
    detections = {
        "num_detections": np.float32(num),
        "detection_boxes": boxes,
        "detection_scores": np.sort(random.random(num)).astype(np.float32)[::-1].copy(),
        "detection_classes": (classes - 1).astype(np.float32),
        "detection_masks": np.array([drawn(within_box, (17, 17)) for within_box in within_boxes], np.float32),
        "detection_keypoints": keypoints.astype(np.float32),
    }
    if number == NOTHING_FOUND:
        detections = {name: value[:0] if value.ndim else value * 0 for name, value in detections.items()}
    return labels, detections


def padded(values):
    """Arrays of several images in one, as a padded batch has them."""
    whole = np.zeros([len(values), *np.max([value.shape for value in values], axis=0).astype(int)], values[0].dtype)
    for place, value in enumerate(values):
        whole[(place, *map(slice, value.shape))] = value
    return tf.constant(whole)


def features_and_eval_dict(numbers, **labels):
    """A batch of images, and what the Object Detection API makes of it for its evaluators.

    Args:
      numbers: of the images.
      **labels: further ones, the same for each image.
    """
    from object_detection import inputs, model_lib_v2

    images = [made_image(number) for number in numbers]
    features = {
        "image": tf.zeros([len(numbers), *IMAGE_SIZE, 3]),
        "true_image_shape": tf.constant([(*IMAGE_SIZE, 3)] * len(numbers)),
        "original_image_spatial_shape": tf.constant([FILE_SIZES[number] for number in numbers]),
        "source_id": tf.constant([str(number) for number in numbers]),
        inputs.HASH_KEY: tf.constant(numbers, tf.int32),
    }
    groundtruth, detections = (
        {name: padded([np.asarray(image[part][name]) for image in images]) for name in images[0][part]}
        for part in (0, 1)
    )
    groundtruth.update({name: tf.constant([value] * len(numbers)) for name, value in labels.items()})
    # The Object Detection API's loop demands `original_image`; `Detector` hands it the image of the model, too.
    eval_dict, _ = model_lib_v2.prepare_eval_dict(
        detections, groundtruth, {**features, "original_image": features["image"]}
    )
    del eval_dict["original_image"]
    return features, eval_dict


@pytest.fixture(scope="module")
def single_images():
    return [features_and_eval_dict([number]) for number in range(len(FILE_SIZES))]


@pytest.fixture(scope="module")
def batches():
    """Batches of images of different sizes in their files, with padded detections, groundtruth and masks."""
    return [features_and_eval_dict([4, 0, 2]), features_and_eval_dict([1, 3])]


# ---- Both ways to the numbers ---------------------------------------------------------------------------------------


@pytest.fixture
def config_of(tmp_path):
    """eval_config and label map -> a pipeline config, of a model that predicts masks and keypoints."""

    def config_of(eval_config, label_map=LABEL_MAP, model="mask_estimation_task {} keypoint_estimation_task {}"):
        from object_detection.protos import pipeline_pb2

        (tmp_path / "label_map.pbtxt").write_text(label_map)
        config = pipeline_pb2.TrainEvalPipelineConfig()
        text = f"""
            model {{ center_net {{ num_classes: {NUM_CLASSES} {model} }} }}
            eval_config {{ {eval_config} }}
            eval_input_reader {{
              label_map_path: '{tmp_path}/label_map.pbtxt' load_instance_masks: true num_keypoints: {NUM_KEYPOINTS} }}
        """
        parse_text_proto(text, config, "config")
        return config

    return config_of


def ours(config, batches):
    """Tag -> number in TensorBoard."""
    options = RequestedEvaluation(config).options
    evaluator = Evaluator(options.categories, masks=options.masks, analysis=None)
    further = FurtherEvaluator(config.eval_config, RequestedEvaluation(config).label_map)
    for features, eval_dict in batches:
        batch = evaluation_batch(features, eval_dict, {}, config.eval_config, options)
        evaluator.update(batch)
        further.update(batch.outputs)
    return evaluator.evaluate(other=further.evaluate()).scalars(options.per_category)


def theirs(config, images):
    """As `object_detection.model_lib_v2.eager_eval_loop`: tag -> number, of what is defined; all tags."""
    from object_detection import eval_util
    from object_detection.utils import label_map_util

    eval_config = config.eval_config
    categories = label_map_util.create_category_index_from_labelmap(config.eval_input_reader[0].label_map_path)
    options = eval_util.evaluator_options_from_eval_config(eval_config)
    found = {}
    for evaluator in eval_util.get_evaluators(eval_config, list(categories.values()), options):
        for _, eval_dict in images:
            evaluator.add_eval_dict(eval_dict)
        found.update({str(tag): float(value) for tag, value in evaluator.evaluate().items()})
    return {tag: value for tag, value in found.items() if not np.isnan(value) and value != -1}, set(found)


def assert_equal(ours, defined, tags):
    assert sum(0 < value < 1 for value in defined.values()) > 1, "this compares more than zeros and ones"
    shared = {tag: value for tag, value in ours.items() if tag in tags}
    assert shared == pytest.approx(defined, rel=0, abs=1e-9), "what is not defined is not logged"
    # The COCO metrics of boxes are always there.
    assert all(tag.startswith(("DetectionBoxes_Precision/", "DetectionBoxes_Recall/")) for tag in ours.keys() - tags)


@pytest.mark.parametrize("name", METRICS_SETS)
def test_the_numbers_of_a_metrics_set_are_those_of_the_object_detection_api(name, config_of, batches, single_images):
    config = config_of(f"metrics_set: '{name}' include_metrics_per_category: false")
    assert_equal(ours(config, batches), *theirs(config, single_images))


@pytest.mark.parametrize(
    "eval_config",
    [
        f"metrics_set: 'coco_detection_metrics' {KEYPOINTS % ''}",
        f"metrics_set: 'coco_detection_metrics' {KEYPOINTS % SIGMAS}",
        "metrics_set: 'precision_at_recall_detection_metrics' recall_lower_bound: 0.1 recall_upper_bound: 0.7",
        " ".join(f"metrics_set: '{name}'" for name in METRICS_SETS),
    ],
    ids=["keypoints", "keypoints with sigmas", "recall bounds", "all sets at once"],
)
def test_so_are_those_with_parameters(eval_config, config_of, batches, single_images):
    config = config_of(f"{eval_config} include_metrics_per_category: false")
    assert_equal(ours(config, batches), *theirs(config, single_images))


def test_groundtruth_that_is_only_padding_counts_there_and_not_here(config_of, batches, single_images):
    config = config_of("metrics_set: 'pascal_voc_detection_metrics' include_metrics_per_category: false")
    (unpadded, tags), (in_batches, _) = theirs(config, single_images), theirs(config, batches)
    person = "PascalBoxes_PerformanceByCategory/AP@0.5IOU/person"  # class 1
    assert in_batches[person] < unpadded[person]
    assert_equal(ours(config, batches), unpadded, tags)
    assert ours(config, batches) == ours(config, single_images)


def test_there_are_no_other_metrics_sets():
    from object_detection import eval_util

    refused = {"coco_keypoint_metrics", "coco_panoptic_metrics"}
    assert {*METRICS_SETS, *refused} == set(eval_util.EVAL_METRICS_CLASS_DICT)


def test_coco_metrics_of_a_category_are_those_of_an_evaluation_of_it_alone(config_of, batches, single_images):
    # With the released pycocotools, `include_metrics_per_category` ends the Object Detection API's own loop.
    sets = "metrics_set: 'coco_detection_metrics' metrics_set: 'coco_mask_metrics'"
    found = ours(config_of(f"{sets} include_metrics_per_category: true all_metrics_per_category: true"), batches)
    for id, name in {1: "person", 2: "dög", CAT: "cat", 4: "Tree"}.items():
        defined, _ = theirs(config_of(sets, label_map=f"item {{ id: {id} name: '{name}' }}"), single_images)
        expected = {f"{tag} ByCategory/{name}": value for tag, value in defined.items()}
        for of in ("DetectionBoxes", "DetectionMasks"):
            if f"{of}_Precision/mAP" in defined:
                expected[f"{of}_PerformanceByCategory/mAP/{name}"] = defined[f"{of}_Precision/mAP"]
        of_category = {tag: value for tag, value in found.items() if tag.endswith(f"/{name}")}
        assert of_category == pytest.approx(expected, rel=0, abs=1e-9)
        assert bool(expected) == (id != CAT)


def test_predictions_of_unlabeled_classes_are_skipped_for_boxes_as_the_object_detection_api_does(config_of):
    # None of its decoders gives `groundtruth_labeled_classes`; without it nothing is skipped, neither here nor there.
    labeled = {"groundtruth_labeled_classes": np.array([1, 0, 0, 1], np.float32)}
    images = [features_and_eval_dict([number], **labeled) for number in range(len(FILE_SIZES))]
    sets = "metrics_set: 'coco_detection_metrics' metrics_set: 'precision_at_recall_detection_metrics'"
    configs = [
        config_of(f"{sets} include_metrics_per_category: false skip_predictions_for_unlabeled_class: {skip}")
        for skip in ("true", "false")
    ]
    (skipping, tags), (counting, _) = (theirs(config, images) for config in configs)
    assert skipping != counting
    assert_equal(ours(configs[0], images), skipping, tags)
    assert_equal(ours(configs[1], images), counting, tags)


def test_what_is_named_twice_is_evaluated_once(config_of, single_images):
    once = f"metrics_set: 'pascal_voc_detection_metrics' {KEYPOINTS % SIGMAS}"
    twice = ours(config_of(f"{once} {once}"), single_images)
    assert twice == ours(config_of(once), single_images)
    assert "PascalBoxes_Precision/mAP@0.5IOU" in twice
    assert "Keypoints_Precision/mAP ByCategory/person" in twice


def test_a_tag_with_two_meanings_is_an_error_that_names_it(config_of, single_images):
    config = config_of(f"{KEYPOINTS % SIGMAS} {KEYPOINTS % ''}")
    further = FurtherEvaluator(config.eval_config, RequestedEvaluation(config).label_map)
    for _, eval_dict in single_images:
        further.update(eval_dict)
    with pytest.raises(ODEvalError, match="have the tag 'Keypoints_Precision/mAP ByCategory/person'"):
        further.evaluate()
    assert "class_label 'person' is given twice" in refused(config)


# ---- What cannot be evaluated is refused when the config is checked -------------------------------------------------


def refused(config):
    with pytest.raises(ODEvalError) as raised:
        _ = RequestedEvaluation(config).options
    assert str(raised.value).count("\n") == 0
    return str(raised.value)


def test_what_the_object_detection_api_has_in_tf1_only_is_refused(config_of):
    assert refused(config_of("metrics_set: 'coco_panoptic_metrics'")) == (
        "eval_config.metrics_set: the Object Detection API only has coco_panoptic_metrics in TF1; remove it, and"
        " evaluate masks with coco_mask_metrics."
    )


@pytest.mark.parametrize("name", [name for name in METRICS_SETS if "mask" in name or "segmentation" in name])
def test_metrics_of_masks_need_a_model_that_predicts_them_and_data_that_has_them(name, config_of):
    config = config_of(f"metrics_set: '{name}'", model="")
    assert f"asks for {name}, but the model predicts no masks; remove it" in refused(config)
    config = config_of(f"metrics_set: '{name}'")
    config.eval_input_reader[0].load_instance_masks = False
    assert f"asks for {name}, but eval_input_reader does not load any; set" in refused(config)


@pytest.mark.parametrize(
    ("eval_config", "label_map", "words"),
    [
        ("include_metrics_per_category: true", LABEL_MAP, "remove them or eval_config.include_metrics_per_category"),
        ("super_categories { key: 'animal' value: 'cat' }", LABEL_MAP, "remove them or eval_config.super_categories"),
        ("", LABEL_MAP.replace("frequency: RARE", ""), "does not give that of 'cat'; add frequency: FREQUENT, COMMON"),
        ("", "item { id: 1 name: 'cat' frequency: RARE }", "it has 1, the model 4; give both the same"),
    ],
)
def test_what_lvis_metrics_lack_is_named(eval_config, label_map, words, config_of):
    assert words in refused(config_of(f"metrics_set: 'lvis_mask_metrics' {eval_config}", label_map))


@pytest.mark.parametrize(
    ("sigmas", "change", "words"),
    [
        ("", {"class_label: 'person'": "class_label: 'persons'"}, "did you mean 'person'?"),
        ("", {"class_label: 'person'": "class_label: 'cat'"}, "'cat' has no keypoints in the label map; add keypoints"),
        ("keypoint_label_to_sigmas { key: 'nose' value: 1 }", {}, "none for left hand, right hand; give one for each"),
        ("", {"model": "mask_estimation_task {}"}, "the model predicts no keypoints; remove it"),
        ("", {"num_keypoints": 2}, "does not load all keypoints of 'person'; set its num_keypoints to the number"),
    ],
)
def test_what_keypoint_metrics_lack_is_named(sigmas, change, words, config_of):
    eval_config = KEYPOINTS % sigmas
    for before, after in change.items():
        eval_config = eval_config.replace(before, str(after))
    config = config_of(eval_config, **{key: value for key, value in change.items() if key == "model"})
    config.eval_input_reader[0].num_keypoints = change.get("num_keypoints", NUM_KEYPOINTS)
    assert words in refused(config)
