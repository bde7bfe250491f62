#!/usr/bin/env bash
# Keypoints and graph of the faces of cats and dogs: forty minutes of one CPU core.
# bash recipes/pets.sh PETS [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder with the folders cat and dog: see checkpoints/pets/README.md}
shift
# keypoints that do not see how dark fur is and move with the picture, from the first step: first gently, then firmly
stage_one=(--preset faces-cpu --data "$data" --threads 1 --size 96 --keypoints 24 --thickness 1.5e-3 --batch 16)
stage_one+=(--local-contrast --vignette 0.95)
accelerate launch train_autolink.py "${stage_one[@]}" --relight 0.5 --equivariance 0.3 --seed 2 \
  --steps 2500 --out runs/pets-1 "$@"
accelerate launch train_autolink.py "${stage_one[@]}" --start-from runs/pets-1/model --relight 0.8 --equivariance 0.8 \
  --spread-steps 0 --ema 0.995 --seed 3 --steps 1100 --out runs/pets-2 "$@"
python generation/erase_colour.py --checkpoint runs/pets-2/model --data "$data" --out runs/pets-3
python -m recipes.bundle runs/pets-3 checkpoints/pets
