"""What eval_config asks to be evaluated and shown, and the classes of it."""

import pytest

from od_eval import ODEvalError, Pipeline
from od_eval.label_map import Category
from od_eval.odapi import eval_config
from od_eval.odapi.eval_config import category_names


def options_of(ssd_config, config_overrides, *overrides):
    return Pipeline.load(ssd_config, [*config_overrides, *overrides]).evaluation.options


def test_options_are_those_of_the_config(ssd_config, config_overrides):
    options = options_of(
        ssd_config,
        config_overrides,
        *("eval_config.num_visualizations=3", "eval_config.max_num_boxes_to_visualize=7"),
        *("eval_config.min_score_threshold=0.25", "eval_config.visualize_groundtruth_boxes=true"),
        *("eval_config.skip_scores=true", "eval_config.skip_labels=true", "eval_config.visualization_export_dir=out"),
        *("eval_config.export_path=detections", "eval_config.include_metrics_per_category=true"),
        *("eval_config.all_metrics_per_category=true", "eval_config.groundtruth_box_visualization_color=red"),
        'eval_config { super_categories { key: "round" value: "circle,triangle" } keypoint_edge { start: 0 end: 2 } }',
    )
    assert set(options.categories) == {1, 2, 3, 4}
    assert (options.num_pictures, options.max_boxes, options.min_score) == (3, 7, 0.25)
    assert (options.show_scores, options.show_labels, options.show_groundtruth_boxes) == (False, False, True)
    assert (options.pictures_dir, options.save_detections, options.per_category) == ("out", True, "all")
    assert (options.groundtruth_color, options.keypoint_edges) == ("red", [(0, 2)])
    assert options.super_categories == {"round": ["circle", "triangle"]}
    assert not options.masks
    assert options_of(ssd_config, config_overrides).per_category == "AP"
    assert options_of(ssd_config, config_overrides).min_score == 0.3
    assert options_of(ssd_config, config_overrides, "eval_config.include_metrics_per_category=false").per_category == (
        "none"
    )
    assert options_of(ssd_config, config_overrides, "eval_config.retain_original_images=false").num_pictures == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("eval_config.metrics_set=coco_detection_metric", "did you mean 'coco_detection_metrics'?"),
        ("eval_config.metrics_set=coco_mask_metrics", "the model predicts no masks; remove it"),
        ("eval_config.metrics_set=coco_keypoint_metrics", "eval_config.parameterized_metric"),
        ("eval_config.use_moving_averages=true", "train_config.optimizer.use_moving_average is false"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(ssd_config, config_overrides, override, words):
    with pytest.raises(ODEvalError) as raised:
        options_of(ssd_config, config_overrides, "train_config.optimizer.use_moving_average=false", override)
    assert words in str(raised.value)


def test_the_label_map_is_read_once_and_not_before_it_is_needed(ssd_config, config_overrides, monkeypatch):
    def read(*args):
        reads.append(args)
        return read_label_map(*args)

    reads, read_label_map = [], eval_config.read_label_map
    monkeypatch.setattr(eval_config, "read_label_map", read)
    evaluation = Pipeline.load(ssd_config, config_overrides).evaluation
    assert reads == []
    assert evaluation.options is evaluation.options
    assert evaluation.categories == evaluation.options.categories
    assert len(reads) == 1


def test_classes_are_those_of_the_first_label_map_or_numbers_or_of_proposals_one(ssd_config, config_overrides):
    def categories(*overrides):
        return Pipeline.load(ssd_config, [*config_overrides, *overrides]).evaluation.label_map

    assert [category.id for category in categories()] == [1, 2, 3, 4]
    assert categories("eval_input_reader[0].label_map_path=") == categories()  # of training
    without = ("eval_input_reader[0].label_map_path=", "train_input_reader.label_map_path=")
    assert categories(*without, "model.ssd.num_classes=2") == [Category(1, "1"), Category(2, "2")]
    proposals = (
        "model.ssd=",
        "model.faster_rcnn={number_of_stages: 1 feature_extractor {type: 'faster_rcnn_resnet50_keras'}}",
    )
    assert categories(*proposals) == [Category(1, "object")]


def test_classes_are_called_by_their_display_names_where_these_tell_them_apart():
    categories = [Category(1, "/m/1", "dog"), Category(2, "/m/2", "cat"), Category(3, "")]
    assert category_names(categories) == {1: "dog", 2: "cat", 3: "3"}
    assert category_names([*categories, Category(4, "/m/4", "cat")]) == {1: "/m/1", 2: "/m/2", 3: "3", 4: "/m/4"}
