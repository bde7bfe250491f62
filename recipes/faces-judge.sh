#!/usr/bin/env bash
# Judge of the landmarks of faces: 9 minutes of one CPU core.
# bash recipes/faces-judge.sh FACES [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder of faces with landmarks.csv: see checkpoints/faces-judge/README.md}
shift
python eval/judge.py --data "$data" --size 96 --channels 16 32 64 128 --steps 3000 --out runs/faces-judge "$@"
python -m recipes.bundle runs/faces-judge/model checkpoints/faces-judge
