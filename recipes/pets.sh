#!/usr/bin/env bash
# Keypoints and graph of cats and dogs: an hour and a half of one CPU core.
# bash recipes/pets.sh PETS [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder with the folders cat and dog: see checkpoints/pets/README.md}
shift
stage_one=(--preset faces-cpu --data "$data" --threads 1)
accelerate launch train_autolink.py "${stage_one[@]}" --steps 3000 --out runs/pets-1 "$@"
# more keypoints, which do not see how dark fur is and move with the picture: first gently, then firmly
stage_one+=(--keypoints 24 --thickness 1.5e-3 --local-contrast --relight 0.6 --vignette 0.9 --batch 24)
accelerate launch train_autolink.py "${stage_one[@]}" --start-from runs/pets-1/model \
  --equivariance 0.2 --spread-steps 300 --decay-share 0 --steps 186 --out runs/pets-2 "$@"
accelerate launch train_autolink.py "${stage_one[@]}" --start-from runs/pets-2/model \
  --equivariance 0.6 --spread-steps 0 --ema 0.995 --steps 1323 --out runs/pets-3 "$@"
python generation/erase_colour.py --checkpoint runs/pets-3/model --data "$data" --out runs/pets-4
python -m recipes.bundle runs/pets-4 checkpoints/pets
