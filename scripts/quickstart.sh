#!/usr/bin/env bash
# From nothing to curves: an environment (.venv), a small dataset of drawn shapes, a trained detector.
#
# Everything it makes lies in .venv/ and quickstart/. Run again, it finds what is there and does nothing twice.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ ! -e quickstart/shapes/label_map.pbtxt ]; then
  .venv/bin/python scripts/create_shapes_dataset.py --output_dir=quickstart/shapes
fi
exec .venv/bin/python scripts/model_main_tf2.py \
  --pipeline_config_path=pipeline_configs/ssd_mobilenet_v2_96x96.config --model_dir=quickstart/run \
  --checkpoint_every_n=50
