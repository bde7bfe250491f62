#!/usr/bin/env bash
# Pose transfer of rendered people, driven by checkpoints/figures: 35 minutes of one CPU core.
# bash recipes/figures-transfer.sh [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
accelerate launch generation/train_transfer.py --stage-one checkpoints/figures --out runs/figures-transfer "$@"
python -m recipes.bundle runs/figures-transfer/model checkpoints/figures-transfer
