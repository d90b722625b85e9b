"""Training under MirroredStrategy, in a child: its two CPU devices must be made before TensorFlow does anything."""

import itertools
import json
import os
import subprocess
import sys

import pytest


def test_replicas_share_a_batch_and_their_losses_are_averaged(ssd_config, config_overrides):
    process = subprocess.run(
        [sys.executable, __file__, ssd_config, *config_overrides, "train_config.batch_size=4"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["images of each replica"] == [2, 2]
    alone = found["losses of each replica's images, alone"]
    assert alone[0] != alone[1]
    assert found["loss"] == pytest.approx(sum(alone) / 2, rel=1e-4)
    assert found["images evaluated"] == 4
    assert found["loss in evaluation"] == pytest.approx(found["loss in evaluation, without replicas"], rel=1e-4)
    assert found["loss in Keras's validation"] == pytest.approx(found["loss in evaluation"], rel=1e-4)


def main(config, *overrides):
    import tensorflow as tf

    from od_eval import Detector, Pipeline

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    pipeline = Pipeline.load(config, overrides)
    with strategy.scope():
        detector = Detector(pipeline)
        detector.compile()
        per_replica = next(iter(pipeline.train_dataset()))
    halves = [
        tf.nest.map_structure(
            lambda value, number=number: strategy.experimental_local_results(value)[number], per_replica
        )
        for number in (0, 1)
    ]

    alone = Detector(pipeline)
    for ours, theirs in zip(alone.model.variables, detector.model.variables, strict=True):
        ours.assign(theirs.numpy())
    losses = tf.function(lambda half: alone.compute_losses(*half, training=True), autograph=False)
    losses_alone = [float(losses(half)["Loss/total_loss"]) for half in halves]

    again = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_generator(
            lambda: itertools.cycle(halves),
            output_signature=tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), halves[0]),
        )
    )
    history = detector.fit(again, steps_per_epoch=1, verbose=0).history

    def evaluate(detector):
        batches = list(detector.evaluate_batches(pipeline.eval_dataset()))
        losses = [loss for batch in batches for loss in [batch.losses["total_loss"]] * len(batch.image_ids)]
        return len(losses), sum(losses) / len(losses)

    num_images, loss_in_evaluation = evaluate(detector)
    for ours, theirs in zip(alone.model.variables, detector.model.variables, strict=True):
        ours.assign(theirs.numpy())
    found = {
        "images evaluated": num_images,
        "loss in evaluation": loss_in_evaluation,
        "loss in evaluation, without replicas": evaluate(alone)[1],
        "loss in Keras's validation": detector.evaluate(pipeline.eval_dataset(), verbose=0, return_dict=True)[
            "total_loss"
        ],
        "images of each replica": [half[0]["image"].shape[0] for half in halves],
        "losses of each replica's images, alone": losses_alone,
        "loss": history["total_loss"][0],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
