#!/usr/bin/env bash
# Keypoints and graph of rendered people: 70 minutes of one CPU core.
# bash recipes/figures.sh [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
accelerate launch train_autolink.py --steps 4000 --out runs/figures "$@"
python -m recipes.bundle runs/figures/model checkpoints/figures
