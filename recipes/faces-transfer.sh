#!/usr/bin/env bash
# Pose transfer of faces, its stage one begun from checkpoints/faces: 70 minutes of one CPU core.
# bash recipes/faces-transfer.sh TALK FEWER [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
# TALK: faces and clips of talking heads; FEWER: every fourth picture of TALK
talk=${1:?a folder of faces and talking heads: see checkpoints/faces-transfer/README.md}
fewer=${2:?a folder of every fourth picture of the first one}
shift 2
stage_one=(--preset faces-cpu --size 128 --keypoints 24 --thickness 1.5e-3 --batch 16)
accelerate launch train_autolink.py "${stage_one[@]}" --data "$talk" --start-from checkpoints/faces \
  --learning-rate 6e-4 --decay-share 0 --spread-steps 300 --steps 600 --out runs/talk "$@"
accelerate launch train_autolink.py "${stage_one[@]}" --data "$fewer" --start-from runs/talk/model \
  --learning-rate 4e-4 --decay-share 0.5 --steps 1200 --out runs/talk-2 "$@"
accelerate launch generation/train_transfer.py --preset cpu --stage-one runs/talk-2/model --data "$talk" \
  --out runs/faces-transfer "$@"
python -m recipes.bundle runs/faces-transfer/model checkpoints/faces-transfer
