#!/usr/bin/env bash
# Keypoints and graph of cats and dogs: an hour of one CPU core.
# bash recipes/pets.sh PETS [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder with the folders cat and dog: see checkpoints/pets/README.md}
shift
accelerate launch train_autolink.py --preset faces-cpu --data "$data" --steps 3000 --threads 1 --out runs/pets "$@"
python -m recipes.bundle runs/pets/model checkpoints/pets
