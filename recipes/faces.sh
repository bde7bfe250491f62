#!/usr/bin/env bash
# Keypoints and graph of faces: 105 minutes of one CPU core.
# bash recipes/faces.sh FACES [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder of faces: see checkpoints/faces/README.md}
shift
accelerate launch train_autolink.py --preset faces-cpu --data "$data" --threads 1 --out runs/faces "$@"
python -m recipes.bundle runs/faces/model checkpoints/faces
