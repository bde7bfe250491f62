#!/usr/bin/env bash
# Pose transfer of faces, its stage one begun from checkpoints/faces, with mouth and eyes: five hours of one CPU core.
# bash recipes/faces-transfer.sh TALK FEWER HEADS [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
# TALK: faces and clips of talking heads; FEWER: every fourth picture of TALK; HEADS: faces and many clips of heads
talk=${1:?a folder of faces and talking heads: see checkpoints/faces-transfer/README.md}
fewer=${2:?a folder of every fourth picture of the first one}
heads=${3:?a folder of faces and clips of heads that speak and blink: see checkpoints/faces-transfer/README.md}
shift 3
stage_one=(--preset faces-cpu --size 128 --keypoints 24 --thickness 1.5e-3 --batch 16)
accelerate launch train_autolink.py "${stage_one[@]}" --data "$talk" --start-from checkpoints/faces \
  --learning-rate 6e-4 --decay-share 0 --spread-steps 300 --steps 600 --out runs/talk "$@"
accelerate launch train_autolink.py "${stage_one[@]}" --data "$fewer" --start-from runs/talk/model \
  --learning-rate 4e-4 --decay-share 0.5 --steps 1200 --out runs/talk-2 "$@"
accelerate launch generation/train_transfer.py --preset cpu --stage-one runs/talk-2/model --data "$talk" \
  --out runs/faces-transfer "$@"
# a child each for mouth and eyes, then what redraws them, which the child learns along with
child=(--preset faces-cpu --feature-size 96 --data "$heads")
accelerate launch train_autolink.py "${child[@]}" --nest runs/talk-2/model --region mouth=0.04,0.43,0.95 \
  --keypoints 12 --steps 1900 --out runs/mouth "$@"
accelerate launch train_autolink.py "${child[@]}" --nest runs/mouth/nested --region eyes=-0.33,-0.36,0.55 \
  --region eyes=0.28,-0.38,0.55,mirrored --keypoints 8 --steps 950 --spread-steps 300 --out runs/eyes "$@"
python generation/train_local.py --stage-one runs/faces-transfer/model --child runs/eyes/nested \
  --region mouth --data "$heads" --out runs/mouth-local "$@"
python generation/train_local.py --stage-one runs/mouth-local/model --child runs/eyes/nested \
  --region eyes --channels 16 32 64 96 --bones 10 --motion-channels 24 48 96 --feature-size 80 --moving-pairs 0.7 \
  --steps 900 --data "$heads" --out runs/eyes-local "$@"
# once more on all of these people: the mouth at 96 px, and the head, which so far knew clips of seven people
python generation/train_local.py --stage-one runs/eyes-local/model --start-from runs/eyes-local/model \
  --child runs/eyes-local/model/stage_one --region mouth --size 96 --moving-pairs 0.6 --adversarial-from 0.4 \
  --learning-rate 7e-4 --steps 1500 --data "$heads" --out runs/mouth-local-2 "$@"
accelerate launch generation/train_transfer.py --preset cpu --stage-one runs/talk-2/model \
  --start-from runs/mouth-local-2/model --adversarial-from 0.3 --learning-rate 7e-4 --steps 1741 --data "$heads" \
  --out runs/faces-transfer-2 "$@"
python -m recipes.bundle runs/faces-transfer-2/model checkpoints/faces-transfer
