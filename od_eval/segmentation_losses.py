"""Losses of semantic segmentation, for tf_keras and for Keras 3 on any backend.

    loss = od_eval.DiceCrossEntropyLoss(ignore_label=255)
    model.compile("adam", loss=loss, metrics=loss.metrics())

With `metrics`, each part of the loss has an entry of its own in Keras's `logs`, for training and for validation:
`cross_entropy_loss`, `dice_loss`. `LossLogger` writes them as `Loss/cross_entropy_loss`, `Loss/dice_loss`, and the sum
as `Loss/total_loss`.

Keras's own losses of this kind (`Dice`, `Tversky`, `CategoricalFocalCrossentropy`) have no ignore label; only its
`SparseCategoricalCrossentropy` has one, and no class weights.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

# The least probability whose logarithm is taken, as in Keras.
_LEAST = 1e-7


class SegmentationLoss:
    """What the losses have in common.

    A loss takes `y_true` and `y_pred`, as every loss of Keras:

    * `y_pred`: float `[batch, height, width, classes]`.
    * `y_true`, sparse: class indices `[batch, height, width]` or `[batch, height, width, 1]`, of any number type. A
      label that is neither an index nor the `ignore_label` makes the loss NaN.
    * `y_true`, one-hot: `[batch, height, width, classes]`; which of the two it is, is told by the shape. A pixel of
      zeros is ignored.

    Called as a function it returns the mean over the pixels of the batch that are not ignored, weighted by the weights
    of their classes (as `ignore_index` and `weight` of PyTorch); 0 if all are ignored. Keras's `sample_weight` is that
    of pixels: `[batch, height, width]`, or `[batch, 1, 1]`.

    An instance is a loss of the Keras in this process: of Keras 3 where it runs on JAX or torch, otherwise of the one
    that `tf.keras` is (as for `od_eval.callbacks.base.Callback`). It also works in the `compile` of the other. A model
    that was saved with it is loaded with `custom_objects={"DiceLoss": od_eval.DiceLoss}`, or `compile=False`.

    Args:
      ignore_label: the label of pixels that do not count; None if there is none.
      class_weights: of each class, in the order of the last axis of `y_pred`; by default 1.
      from_logits: whether `y_pred` are logits, of which a softmax is taken, or probabilities.
      **kwargs: `name`, `reduction`, `dtype` of Keras's losses.
    """

    default_name: str
    if TYPE_CHECKING:  # of Keras's class
        name: str

        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> SegmentationLoss:
        return super().__new__(_with_keras_base(cls))  # type: ignore[arg-type]

    def __init__(
        self,
        *,
        ignore_label: int | None = None,
        class_weights: Sequence[float] | None = None,
        from_logits: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(class_weights, Mapping):  # as `fit` takes them; a list of it has its keys
            raise ValueError("class_weights is a dict; give a list, with one of 0 or more for each class.")
        if class_weights is not None and (not len(class_weights) or min(class_weights) < 0):
            raise ValueError(f"class_weights are {list(class_weights)}; give one of 0 or more for each class.")
        super().__init__(**{"name": self.default_name, "reduction": "sum_over_batch_size", **kwargs})
        self._ignore_label = ignore_label
        self._class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        self._from_logits = from_logits

    def metrics(self) -> list[SegmentationLoss]:
        """The parts of the loss as functions that Keras's `compile` takes as metrics, under the parts' names."""
        config = {**self.get_config(), "reduction": "none"}  # so that a batch counts by its size
        return [part(**{**config, "name": part.default_name}) for part in self.parts()]

    def parts(self) -> tuple[type[SegmentationLoss], ...]:
        """The losses of which this one is the sum."""
        return (type(self),)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),  # type: ignore[misc]
            "ignore_label": self._ignore_label,
            "class_weights": self._class_weights,
            "from_logits": self._from_logits,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SegmentationLoss:
        return cls(**config)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """`[batch, height, width]`; its mean is the loss of the batch."""
        ops = _ops(y_pred)
        y_pred = ops.cast(y_pred, "float32")
        one_hot = self._one_hot(ops, y_true, y_pred)
        if self._class_weights is None:
            weights = ops.ones_like(one_hot[:1, :1, :1])
        else:
            weights = ops.reshape(ops.cast(self._class_weights, "float32"), (1, 1, 1, -1))
        log_probability = (
            ops.log_softmax(y_pred, axis=-1) if self._from_logits else ops.log(ops.maximum(y_pred, _LEAST))
        )
        return self.values(ops, one_hot, weights, log_probability)

    def values(self, ops: Any, one_hot: Any, weights: Any, log_probability: Any) -> Any:
        """`[batch, height, width]`; its mean is the loss of the batch.

        Args:
          ops: functions of tensors, see `_ops`.
          one_hot, log_probability: float32 `[batch, height, width, classes]`; `one_hot` is 0 for ignored pixels.
          weights: of classes, float32 `[1, 1, 1, classes]`.
        """
        raise NotImplementedError

    def _one_hot(self, ops: Any, y_true: Any, y_pred: Any) -> Any:
        classes, rank = y_pred.shape[-1], len(y_pred.shape)
        if rank != 4 or classes is None or classes < 2:
            raise ValueError(
                f"{self.name} is given y_pred of shape {tuple(y_pred.shape)}; it needs [batch, height, width, classes],"
                " with two classes or more."
            )
        if self._class_weights is not None and len(self._class_weights) != classes:
            raise ValueError(
                f"{self.name} has {len(self._class_weights)} class_weights, and y_pred {classes} classes; give one for"
                " each class."
            )
        ignored = self._ignore_label
        if len(y_true.shape) == rank and y_true.shape[-1] == classes:
            one_hot = ops.cast(y_true, "float32")
            if ignored is not None and 0 <= ignored < classes:
                one_hot = one_hot * (1 - one_hot[..., ignored : ignored + 1])
            return one_hot
        if len(y_true.shape) == rank and y_true.shape[-1] == 1:
            y_true = y_true[..., 0]
        if len(y_true.shape) != rank - 1:
            raise ValueError(
                f"{self.name} is given y_true of shape {tuple(y_true.shape)} for y_pred of shape {tuple(y_pred.shape)};"
                f" it needs labels [batch, height, width], or one-hot labels of {classes} classes."
            )
        labels = ops.cast(y_true, "int32")
        index = ops.minimum(ops.maximum(labels, 0), classes - 1)
        counts = ops.where(ops.equal(index, labels), 1.0, float("nan"))
        if ignored is not None:
            counts = ops.where(ops.equal(labels, ignored), 0.0, counts)
        return ops.cast(ops.one_hot(index, classes), "float32") * counts[..., None]


class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy: −log p of the class of each pixel.

    Arguments as for `SegmentationLoss`.
    """

    default_name = "cross_entropy_loss"

    def values(self, ops: Any, one_hot: Any, weights: Any, log_probability: Any) -> Any:
        return _weighted(ops, one_hot * weights, -log_probability)


class FocalLoss(SegmentationLoss):
    """Focal loss (Lin et al., ICCV 2017): cross-entropy, times (1 − p)^gamma, so that easy pixels count less.

    The `alpha` of the paper is in the `class_weights`.

    Args:
      gamma: 0 is cross-entropy; 2 is what the paper found best.
      **kwargs: as for `SegmentationLoss`.
    """

    default_name = "focal_loss"

    def __init__(self, *, gamma: float = 2.0, **kwargs: Any) -> None:
        if not gamma >= 0:
            raise ValueError(f"gamma is {gamma}; give a number of 0 or more.")
        super().__init__(**kwargs)
        self._gamma = float(gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self._gamma}

    def values(self, ops: Any, one_hot: Any, weights: Any, log_probability: Any) -> Any:
        # Rounding may leave p above 1, and of 0 the derivative of a power below 1 is not finite.
        wrong = ops.maximum(1 - ops.exp(log_probability), _LEAST)
        return _weighted(ops, one_hot * weights, -(wrong**self._gamma) * log_probability)


class DiceLoss(SegmentationLoss):
    """Dice loss (Milletari et al., 2016): 1 − the mean over classes of 2 Σ p g ÷ (Σ p + Σ g), over the whole batch.

    Classes that no pixel of the batch belongs to are left out. With `class_weights` the mean is weighted.

    Arguments as for `SegmentationLoss`.
    """

    default_name = "dice_loss"

    def values(self, ops: Any, one_hot: Any, weights: Any, log_probability: Any) -> Any:
        def over_pixels(values: Any) -> Any:
            return ops.sum(values, axis=(0, 1, 2), keepdims=True)

        counts = ops.sum(one_hot, axis=-1, keepdims=True)
        probability = ops.exp(log_probability) * counts
        actual = over_pixels(one_hot)
        dice = 2 * over_pixels(one_hot * probability) / ops.maximum(over_pixels(probability) + actual, _LEAST)
        weights = ops.where(ops.equal(actual, 0.0), 0.0, weights)
        total = ops.sum(weights)
        loss = ops.sum(weights * (1 - dice)) / ops.maximum(total, _LEAST)
        return loss * ops.ones_like(counts[..., 0])


class DiceCrossEntropyLoss(SegmentationLoss):
    """The sum of `DiceLoss` and `CrossEntropyLoss`, which `metrics()` also gives one by one.

    Arguments as for `SegmentationLoss`.
    """

    default_name = "dice_cross_entropy_loss"

    def parts(self) -> tuple[type[SegmentationLoss], ...]:
        return CrossEntropyLoss, DiceLoss

    def values(self, ops: Any, one_hot: Any, weights: Any, log_probability: Any) -> Any:
        return sum(part.values(self, ops, one_hot, weights, log_probability) for part in self.parts())


def _weighted(ops: Any, weights: Any, values: Any) -> Any:
    """Values of pixels whose mean is the weighted mean of those given, which are `[batch, height, width, classes]`."""
    of_pixels = ops.sum(weights, axis=-1)
    # A pixel is of one class: times 0, the values of the others are nothing unless they are infinite.
    return ops.sum(weights * values, axis=-1) / ops.maximum(ops.mean(of_pixels), _LEAST)


@functools.cache
def _with_keras_base(cls: type[SegmentationLoss]) -> type:
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "config") or keras.config.backend() == "tensorflow":
        import tensorflow as tf

        keras = tf.keras
    if issubclass(cls, keras.losses.Loss):  # created here earlier: `copy.copy` passes the derived class
        return cls
    made = type(cls.__name__, (cls, keras.losses.Loss), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    # For models that are copied, or saved and loaded, in here; a user's own of this name stays.
    keras.utils.get_custom_objects().setdefault(cls.__name__, made)
    return made


def _ops(tensor: Any) -> Any:
    """Functions of tensors of this kind, by their names in `keras.ops`."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not tensorflow.is_tensor(tensor):
        return sys.modules["keras"].ops
    return _ops_of_tensorflow()


@functools.cache
def _ops_of_tensorflow() -> Any:
    import tensorflow as tf

    return types.SimpleNamespace(
        cast=tf.cast,
        equal=tf.equal,
        exp=tf.exp,
        log=tf.math.log,
        log_softmax=tf.nn.log_softmax,
        maximum=tf.maximum,
        mean=tf.reduce_mean,
        minimum=tf.minimum,
        one_hot=tf.one_hot,
        ones_like=tf.ones_like,
        reshape=tf.reshape,
        sum=tf.reduce_sum,
        where=tf.where,
    )
