#!/usr/bin/env bash
# Judge of the joints of rendered people: 9 minutes of one CPU core.
# bash recipes/figures-judge.sh [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
python eval/judge.py --data figures --size 64 --channels 32 64 128 --steps 2500 --out runs/figures-judge "$@"
python -m recipes.bundle runs/figures-judge/model checkpoints/figures-judge
