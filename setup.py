from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="od_eval",
    version="0.1.0",
    description="Train and evaluate TensorFlow Object Detection API models, with every loss and metric in TensorBoard",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["od_eval", "od_eval.*"]),
    package_data={
        "od_eval": [
            "py.typed",
            "programs/*.config",
            *("plugin/static/*.*", "plugin/static/vendor/*"),
        ]
    },
    entry_points={
        "console_scripts": ["od-eval = od_eval.cli:main"],
        "tensorboard_plugins": ["od_eval = od_eval.plugin.loader:DetectionsLoader"],
    },
    # Ranges that were installed together and tested. The Object Detection API itself is pinned to the release whose
    # incompatibilities od_eval/odapi/compat.py mends. tf-models-official pins TensorFlow to its own version, and the
    # Object Detection API wants a package that Python 3.13 does not have: there, and to keep TensorFlow 2.21,
    # `od-eval install_odapi` installs the two.
    install_requires=[
        "tensorflow>=2.19,<2.22; python_version < '3.13'",
        "tensorflow>=2.21,<2.22; python_version >= '3.13'",
        "tf-keras>=2.19,<2.22",
        "tf-models-official>=2.19,<2.21; python_version < '3.13'",
        "tf-models-research-object-detection>=2.8.0,<2.9; python_version < '3.13'",
        "tensorboard>=2.19,<2.22",
        # Later ones have no pkg_resources, which tensorboard 2.20 imports, and 2.21, of Python 3.13, does not.
        "setuptools>=65,<81; python_version < '3.13'",
        "protobuf>=5.28,<8",
        "numpy>=1.26,<3",
        "scipy>=1.11,<2",
        "pandas>=2,<4",
        "pyarrow>=17,<27",
        "pillow>=10.1",
        "matplotlib>=3.5,<4",  # its fonts, for labels in pictures
        "pycocotools>=2.0.8,<3",
        "hotcoco>=1.3,<2",
        "absl-py>=1.4,<3",
        "tqdm>=4.60,<5",
    ],
    extras_require={
        "dev": [
            "cryptography>=42,<51",
            "hypothesis>=6,<7",
            "ipykernel>=6.29,<8",
            "mlflow-skinny>=3,<4",
            "mypy>=1.18,<3",
            "nbclient>=0.10,<1",
            "optuna>=4,<6",
            "playwright>=1.50,<2",
            "psutil>=5.9,<8",
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.5,<4",
            "ray[train]>=2.60,<3",
            "ruff>=0.14,<1",
            # What analyses of errors are compared with in their tests.
            "supervision>=0.26,<1",
            "tidecv>=1.0.1,<2",
        ],
        # For `od_eval.keras_hub`, beside a backend of Keras 3.
        "keras": ["keras-hub>=0.32,<1"],
        # For `--ray` of `od-eval evaluate` and `od-eval convert`; in a cluster, on every machine.
        "ray": ["ray>=2.60,<3"],
        # For `od-eval search --method=bayes`.
        "search": ["optuna>=4,<6"],
        # For videos in `od-eval detect`; the Object Detection API brings it, too.
        "video": ["opencv-python-headless>=4.8,<6"],
    },
)
