#!/usr/bin/env bash
# Keypoints and graph of rendered animals, stopped early: 10 minutes of one CPU core.
# bash recipes/animals.sh [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
# the first 384 steps of a run of 1,000: the learning rate had not begun to fall
accelerate launch train_autolink.py --data animals --steps 384 --decay-share 0 --out runs/animals "$@"
python -m recipes.bundle runs/animals/model checkpoints/animals
