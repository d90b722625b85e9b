"""The configs of the TF2 model zoo: each builds, trains and evaluates, with smaller images and batches by overrides.

Those in tests/data/zoo_configs as they are; the zoo's others as overrides of the one that is nearest, with the fields
in which they differ.
"""

import gc
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import tensorflow as tf

from od_eval import Detector, ODEvalError, Pipeline

DATA = Path(__file__).parents[1] / "data" / "zoo_configs"
SIZE = 128
# The feature pyramid of EfficientDet wants multiples of 128 pixels, over 128; SSD ResNet wants 129 pixels and more. The
# zoo's MobileNets v2 are made for 300 and 320 pixels, whatever stands in these configs.
SIZES = {"efficientdet": 256, "ssd_resnet": 160, "ssd_mobilenet_v2": 320}
KEYPOINTS = "centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8"
DEEPMAC = "center_net_deepmac_512x512_voc_only_tpu-32"
FURTHER_LOSSES = {
    KEYPOINTS: {f"Loss/human_pose/keypoint/{loss}" for loss in ("heatmap", "offset", "regression")},
    DEEPMAC: {"Loss/deep_mask_estimation"},
    "mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8": {"Loss/BoxClassifierLoss/mask_loss"},
}


def smaller(config, size):
    """Overrides that make images and batches small: the size of the longer side, of the shorter one in proportion."""
    model = config.model.WhichOneof("model")
    resizer = getattr(config.model, model).image_resizer
    kind = resizer.WhichOneof("image_resizer_oneof")
    if kind == "fixed_shape_resizer":
        dimensions = {"height": size, "width": size}
    else:
        before = resizer.keep_aspect_ratio_resizer
        dimensions = {
            "min_dimension": size * before.min_dimension // before.max_dimension,
            "max_dimension": size,
        }
    overrides = [f"model.{model}.image_resizer.{kind}.{field}={value}" for field, value in dimensions.items()]
    for number, option in enumerate(config.train_config.data_augmentation_options):
        if option.HasField("random_scale_crop_and_pad_to_square"):
            field = f"data_augmentation_options[{number}].random_scale_crop_and_pad_to_square.output_size"
            overrides.append(f"train_config.{field}={size}")
    batch_size = 2
    if config.model.center_net.HasField("deepmac_mask_estimation"):
        # An hourglass over each of a hundred boxes, most of which are padding, takes more than 20 GB.
        overrides.append("train_config.max_number_of_boxes=2")
        batch_size = 1
    return [
        *overrides,
        f"train_config.batch_size={batch_size}",
        "eval_config.batch_size=1",
        "train_config.fine_tune_checkpoint=",
    ]


@pytest.fixture
def load(shapes, people, reading):
    """Loads a config of the zoo with its paths set and images and batches made small."""

    def load(name, *overrides, size=None):
        path = DATA / f"{name}.config"
        as_it_is = Pipeline.load(path, overrides).config
        if as_it_is.model.center_net.keypoint_estimation_task:
            paths = reading(people / "people.record", people / "label_map.pbtxt")
            paths.append(f"model.center_net.keypoint_label_map_path={people}/label_map.pbtxt")
        else:
            paths = reading(f"{shapes}/train-*", shapes / "label_map.pbtxt")
        size = size or next((size for part, size in SIZES.items() if part in name), SIZE)
        return Pipeline.load(path, [*overrides, *paths, *smaller(as_it_is, size)])

    yield load
    # Thirty models at once do not fit into memory.
    tf.keras.backend.clear_session()
    gc.collect()


ZOO = sorted(path.stem for path in DATA.glob("*.config"))


@pytest.mark.parametrize("name", ZOO)
def test_a_config_of_the_zoo_is_right_once_its_paths_are_set(load, name):
    with pytest.raises(ODEvalError, match="PATH_TO_BE_CONFIGURED"):
        Pipeline.load(DATA / f"{name}.config").train_dataset()
    pipeline = load(name)
    pipeline.check_model()
    pipeline.check_input("train_input_reader", pipeline.config.train_input_reader)
    pipeline.check_input("eval_input_reader", pipeline.config.eval_input_reader[0])


def test_a_config_with_keypoints_says_that_it_needs_their_label_map(load):
    field = "model.center_net.keypoint_label_map_path"
    with pytest.raises(ODEvalError, match=rf"{field} is still 'PATH_TO_BE_CONFIGURED'"):
        Pipeline.load(DATA / f"{KEYPOINTS}.config").check_model()
    load(KEYPOINTS).check_model()


def test_the_label_map_of_keypoints_is_named_before_any_data_is_read(load):
    field = "model.center_net.keypoint_label_map_path"
    pipeline = load(KEYPOINTS)
    pipeline.config.model.center_net.keypoint_label_map_path = "PATH_TO_BE_CONFIGURED"
    for dataset in (pipeline.train_dataset, pipeline.eval_dataset):
        with pytest.raises(ODEvalError, match=rf"{field} is still 'PATH_TO_BE_CONFIGURED'"):
            dataset()


def check_precision(detector, pipeline):
    """Layers compute in bfloat16 where the config asks for it and in float32 elsewhere; weights are always float32."""
    model = detector.model
    layers = [layer for layer in model.submodules if isinstance(layer, tf.keras.layers.Layer)]
    policies = {layer.dtype_policy.name for layer in layers}
    assert ("mixed_bfloat16" in policies) == pipeline.config.train_config.use_bfloat16
    assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_a_config_of_the_zoo_trains_and_evaluates(load, trained, evaluated, name):
    pipeline = load(name)
    detector, losses = trained(pipeline)
    check_precision(detector, pipeline)
    further = FURTHER_LOSSES.get(name, set())
    assert further <= losses.keys()
    assert losses.get("other_loss", 0.0) == pytest.approx(sum(losses[loss] for loss in further), rel=1e-5)
    batch = evaluated(detector, pipeline)
    assert further <= batch.losses.keys()
    assert (batch.detections.masks is not None) == detector.evaluation_options.masks


def efficientdet(number, filters, iterations, layers, combine="fast_attention"):
    extractor, predictor = "model.ssd.feature_extractor", "model.ssd.box_predictor"
    return [
        f"{extractor}.type=ssd_efficientnet-b{number}_bifpn_keras",
        f"{extractor}.bifpn.num_iterations={iterations}",
        f"{extractor}.bifpn.num_filters={filters}",
        f"{extractor}.bifpn.combine_method={combine}",
        f"{predictor}.weight_shared_convolutional_box_predictor.depth={filters}",
        f"{predictor}.weight_shared_convolutional_box_predictor.num_layers_before_predictor={layers}",
    ]


def extractor(name, model):
    return [f"model.{model}.feature_extractor.type={name}"]


HOURGLASS = [
    "model.center_net.feature_extractor.type=hourglass_104",
    "model.center_net.feature_extractor.bgr_ordering=true",
    "model.center_net.feature_extractor.channel_means=[104.01362025, 114.03422265, 119.9165958]",
    "model.center_net.feature_extractor.channel_stds=[73.6027665, 69.89082075, 70.9150767]",
]
INCEPTION = [
    "model.faster_rcnn.feature_extractor.type=faster_rcnn_inception_resnet_v2_keras",
    "model.faster_rcnn.initial_crop_size=17",
    "model.faster_rcnn.maxpool_kernel_size=1",
    "model.faster_rcnn.maxpool_stride=1",
]
FIXED_SHAPE = "model.faster_rcnn.image_resizer.fixed_shape_resizer={{height: {0} width: {0}}}".format

EFFICIENTDET = "ssd_efficientdet_d0_512x512_coco17_tpu-8"
CENTERNET = "centernet_resnet101_v1_fpn_512x512_coco17_tpu-8"
FASTER_RCNN_TPU = "faster_rcnn_resnet50_v1_640x640_coco17_tpu-8"
FASTER_RCNN_GPU = "faster_rcnn_resnet101_v1_800x1333_coco17_gpu-8"
RETINANET = "ssd_resnet50_v1_fpn_640x640_coco17_tpu-8"

# The zoo's model -> the config it is a variant of, and where it differs from that, apart from the size of images.
VARIANTS = {
    "efficientdet_d2": (EFFICIENTDET, efficientdet(2, filters=112, iterations=5, layers=3)),
    "efficientdet_d3": (EFFICIENTDET, efficientdet(3, filters=160, iterations=6, layers=4)),
    "efficientdet_d4": (EFFICIENTDET, efficientdet(4, filters=224, iterations=7, layers=4)),
    "efficientdet_d5": (EFFICIENTDET, efficientdet(5, filters=288, iterations=7, layers=4)),
    # D7 is D6 with larger images.
    "efficientdet_d6_d7": (EFFICIENTDET, efficientdet(6, filters=384, iterations=8, layers=5, combine="sum")),
    "centernet_hourglass104_keypoints": (KEYPOINTS, HOURGLASS),
    "centernet_resnet50_v2": (CENTERNET, extractor("resnet_v2_50", "center_net")),
    "centernet_resnet50_v2_keypoints": (KEYPOINTS, extractor("resnet_v2_50", "center_net")),
    "centernet_resnet50_v1_fpn": (CENTERNET, extractor("resnet_v1_50_fpn", "center_net")),
    "centernet_resnet101_v1_fpn": (CENTERNET, extractor("resnet_v1_101_fpn", "center_net")),
    "deepmac_all_classes": (
        DEEPMAC,
        [
            "model.center_net.deepmac_mask_estimation.network_type=hourglass100",
            "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[]",
        ],
    ),
    "faster_rcnn_resnet50_gpu": (FASTER_RCNN_GPU, extractor("faster_rcnn_resnet50_keras", "faster_rcnn")),
    "faster_rcnn_resnet101_640": (FASTER_RCNN_TPU, extractor("faster_rcnn_resnet101_keras", "faster_rcnn")),
    "faster_rcnn_resnet152_1024": (
        FASTER_RCNN_TPU,
        [*extractor("faster_rcnn_resnet152_keras", "faster_rcnn"), FIXED_SHAPE(1024)],
    ),
    "faster_rcnn_resnet152_gpu": (FASTER_RCNN_GPU, extractor("faster_rcnn_resnet152_keras", "faster_rcnn")),
    "faster_rcnn_inception_resnet_v2_640": (FASTER_RCNN_TPU, INCEPTION),
    "faster_rcnn_inception_resnet_v2_1024": (FASTER_RCNN_TPU, [*INCEPTION, FIXED_SHAPE(1024)]),
    "ssd_resnet101_v1_fpn": (RETINANET, extractor("ssd_resnet101_v1_fpn_keras", "ssd")),
    "ssd_resnet152_v1_fpn": (RETINANET, extractor("ssd_resnet152_v1_fpn_keras", "ssd")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_another_model_of_the_zoo_trains(load, trained, name):
    config, overrides = VARIANTS[name]
    pipeline = load(config, *overrides)
    detector, losses = trained(pipeline)
    check_precision(detector, pipeline)
    assert FURTHER_LOSSES.get(config, set()) <= losses.keys()


def test_a_size_that_the_feature_pyramid_cannot_halve_says_what_to_do(load):
    name = "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"
    with pytest.raises(
        ODEvalError, match=r"make height and width of the image_resizer multiples of 32, or pad_to_multiple"
    ):
        Detector(load(name, size=48))
    Detector(load(name, "model.ssd.feature_extractor.pad_to_multiple=32", size=48))


# ---- CenterNet MobileNet v2, which begins with weights that Keras downloads ------------------------------------------

WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """The folder where Keras looks for weights before it downloads them, empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    models = tmp_path / ".keras" / "models"
    models.mkdir(parents=True)
    return models


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        (CENTERNET, extractor("mobilenet_v2_fpn", "center_net")),
        (KEYPOINTS, [*extractor("mobilenet_v2_fpn_sep_conv", "center_net"), "model.center_net.use_depthwise=true"]),
    ],
    ids=["boxes", "keypoints"],
)
def test_centernet_mobilenet_trains_from_the_weights_that_keras_keeps(load, trained, keras_home, config, overrides):
    backbone = tf.keras.applications.MobileNetV2(include_top=False, weights=None)
    backbone.save_weights(keras_home / WEIGHTS)
    pipeline = load(config, *overrides)
    first = Detector(pipeline).model._feature_extractor.classification_backbone.get_weights()[0]
    assert (first == backbone.get_weights()[0]).all()
    trained(pipeline)


def test_weights_that_cannot_be_downloaded_are_named_with_the_folder_to_put_them_in(load, keras_home, monkeypatch):
    def unreachable(url, *args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr("tf_keras.src.utils.data_utils.urlretrieve", unreachable)
    with pytest.raises(ODEvalError) as raised:
        Detector(load(CENTERNET, *extractor("mobilenet_v2_fpn", "center_net")))
    message = str(raised.value)
    assert re.search(rf"needs https://\S+/{re.escape(WEIGHTS)}, which cannot be downloaded", message)
    assert f"put the file into {keras_home}" in message
