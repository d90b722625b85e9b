"""Graphs that are traced once."""

import pytest
import tensorflow as tf

import od_eval.odapi  # noqa: F401
from od_eval.odapi.graphs import Graphs, specs_of_batches


def batch(images=(2, 8, 8, 3), num_boxes=3, masks=(8, 8)):
    features = {"image": tf.zeros(images)}
    labels = {
        "groundtruth_boxes": tf.zeros([images[0], num_boxes, 4]),
        "groundtruth_instance_masks": tf.zeros([images[0], num_boxes, *masks]),
        "num_groundtruth_boxes": tf.fill([images[0]], num_boxes),
    }
    return features, labels


@pytest.mark.parametrize(("images_vary", "num_traced"), [(False, 3), (True, 2)])
def test_a_function_is_traced_once_for_batches_of_a_size_whatever_their_boxes(images_vary, num_traced):
    traced = []

    def num_boxes(features, labels):
        traced.append(features)
        return tf.shape(labels["groundtruth_boxes"])[1]

    graphs = Graphs()
    batches = [batch(), batch(num_boxes=0), batch((1, 8, 8, 3)), batch((2, 16, 8, 3), masks=(16, 8))]
    found = [graphs.run(num_boxes, specs_of_batches(*each, images_vary), *each) for each in batches]
    assert [int(number) for number in found] == [3, 0, 3, 3]
    assert len(traced) == len(graphs) == num_traced


def test_functions_of_one_signature_are_told_apart():
    def double(features):
        return features["image"] * 2

    def halve(features):
        return features["image"] / 2

    features = {"image": tf.ones([1])}
    specs = ({"image": tf.TensorSpec([1])},)
    graphs = Graphs()
    assert [float(graphs.run(function, specs, features)[0]) for function in (double, halve)] == [2, 0.5]


def test_a_function_that_asks_a_tensor_for_its_truth_is_traced_with_autograph():
    def absolute(features):
        if tf.reduce_sum(features["image"]) < 0:
            return -features["image"]
        else:
            return features["image"]

    specs = ({"image": tf.TensorSpec([1])},)
    assert float(Graphs().run(absolute, specs, {"image": tf.constant([-3.0])})[0]) == 3
