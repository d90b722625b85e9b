"""Trains a small network to segment drawn shapes, on any backend of Keras 3: three minutes on two CPU cores.

    python examples/segmentation.py runs/segmentation
    tensorboard --logdir runs

The images are drawn into runs/segmentation/shapes, as `od-eval shapes --segmentation` does. Losses of training and
evaluation, IoU and other metrics and pictures of the worst images are in TensorBoard, the best weights in best/.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image

import od_eval
from od_eval.data.shapes import SEGMENTATION_CATEGORIES, write_segmentation_shapes

BATCH_SIZE = 16


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 `[n, height, width, 3]` from 0 to 1, and labels, int32 `[n, height, width]`."""
    images, labels = (
        np.stack([np.asarray(Image.open(path)) for path in sorted((folder / kind).glob("*.png"))])
        for kind in ("images", "labels")
    )
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def make_model(size: int, num_classes: int) -> keras.Model:
    """A U-Net of three scales; it returns logits."""

    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))
        return x

    inputs = x = keras.Input((size, size, 3))
    skipped = []
    for filters in (16, 32, 64):
        x = block(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 64)
    for filters, skip in zip((64, 32, 16), reversed(skipped), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), filters)
    return keras.Model(inputs, layers.Conv2D(num_classes, 1)(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("log_dir", type=Path)
    parser.add_argument("--num_train", type=int, default=600)
    parser.add_argument("--num_validation", type=int, default=100)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    shapes = args.log_dir / "shapes"
    write_segmentation_shapes(
        shapes,
        num_train=args.num_train,
        num_validation=args.num_validation,
        image_size=args.image_size,
        overwrite=True,
    )
    x, y = read(shapes / "train")
    x_validation, y_validation = read(shapes / "validation")
    batches = [slice(first, first + BATCH_SIZE) for first in range(0, len(x_validation), BATCH_SIZE)]
    validation = [(x_validation[batch], y_validation[batch]) for batch in batches]

    model = make_model(args.image_size, len(SEGMENTATION_CATEGORIES))
    loss = od_eval.DiceCrossEntropyLoss()
    learning_rate = keras.optimizers.schedules.CosineDecay(0.003, args.epochs * -(-len(x) // BATCH_SIZE))
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=loss.metrics())
    model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=args.epochs,
        verbose=0,
        callbacks=[
            od_eval.LossLogger(args.log_dir, log_every_n_steps=10, batch_size=BATCH_SIZE),
            od_eval.SegmentationEvaluation(
                validation, args.log_dir, options=od_eval.SegmentationOptions(SEGMENTATION_CATEGORIES)
            ),
            od_eval.BestCheckpoint(args.log_dir),
        ],
    )


if __name__ == "__main__":
    main()
