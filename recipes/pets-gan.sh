#!/usr/bin/env bash
# GAN of cats and dogs, of the structure of checkpoints/pets: twenty hours of one CPU core, two minutes of a card.
# bash recipes/pets-gan.sh PETS [OPTION ...]: from the root of a clone; the options go to every training.
set -euo pipefail
data=${1:?a folder with the folders cat and dog: see checkpoints/pets-gan/README.md}
shift
gan=(--preset pets-cpu --stage-one checkpoints/pets --data "$data" --threads 1)
accelerate launch generation/train_gan.py "${gan[@]}" --steps 5200 --out runs/pets-gan "$@"
accelerate launch generation/train_gan.py "${gan[@]}" --start-from runs/pets-gan/model \
  --structure-weight 0.75 --variety 0.7 --steps 11000 --out runs/pets-gan-2 "$@"
accelerate launch generation/train_gan.py "${gan[@]}" --start-from runs/pets-gan-2/model \
  --structure-weight 0.75 --variety 0.72 --ema 0.999 --decay-share 0.4 --steps 11000 --out runs/pets-gan-3 "$@"
# grown to 128 px; keypoints found in other lights carry less of the fur's lightness
grown=(--preset pets-128 --stage-one checkpoints/pets --data "$data" --threads 1)
grown+=(--channels 160 160 96 64 32 32 --appearance-weight 2 --augment 1 --close-up-weight 0)
grown+=(--structure-weight 0.75 --variety 0.8 --relight 0.8)
accelerate launch generation/train_gan.py "${grown[@]}" --start-from runs/pets-gan-3/model \
  --decay-share 0 --steps 1500 --out runs/pets-gan-4 "$@"
accelerate launch generation/train_gan.py "${grown[@]}" --start-from runs/pets-gan-4/model \
  --feature-size 160 --decay-share 0.4 --batch 32 --steps 1450 --out runs/pets-gan-5 "$@"
# the bundled one had an earlier stage one until here, an earlier discriminator until the seventh training, which was
# stopped when faces and variety began to get worse, and no encoder of appearances until the eighth; until the tenth
# discriminator and encoder never saw the deepest features
again=("${grown[@]}" --relight 0 --structure-weight 1 --variety 0.85)
accelerate launch generation/train_gan.py "${again[@]}" --start-from runs/pets-gan-5/model \
  --decay-share 0 --steps 1555 --out runs/pets-gan-6 "$@"
accelerate launch generation/train_gan.py "${again[@]}" --start-from runs/pets-gan-6/model \
  --decay-share 0.2 --steps 2300 --out runs/pets-gan-7 "$@"
accelerate launch generation/train_gan.py "${again[@]}" --start-from runs/pets-gan-7/model \
  --decay-share 0 --steps 865 --out runs/pets-gan-8 "$@"
accelerate launch generation/train_gan.py "${again[@]}" --start-from runs/pets-gan-8/model \
  --decay-share 0.35 --steps 3300 --out runs/pets-gan-9 "$@"
# larger networks, on two cores; the structure weight of the last was 1 for 1,153 steps, then 1.5 until step 4,800, before
# which it had decayed once
larger=(--preset pets-128 --stage-one checkpoints/pets --data "$data" --threads 1)
accelerate launch generation/train_gan.py "${larger[@]}" --start-from runs/pets-gan-9/model \
  --structure-weight 1 --close-up-weight 0 --decay-share 0 --steps 371 --out runs/pets-gan-10 "$@"
accelerate launch generation/train_gan.py "${larger[@]}" --start-from runs/pets-gan-10/model \
  --close-up-weight 0 --decay-share 0.4 --out runs/pets-gan-11 "$@"
# close-ups, for the eyes; the bundled one was one training of 4,000 steps, which began with the discriminator of whole
# pictures of another run of 6,000
finer=("${larger[@]}" --directions 12 --fixed-scales 2 --structure-weight 0.5 --learning-rate 3e-4)
accelerate launch generation/train_gan.py "${finer[@]}" --start-from runs/pets-gan-11 \
  --decay-share 0 --steps 1088 --out runs/pets-gan-12 "$@"
accelerate launch generation/train_gan.py "${finer[@]}" --start-from runs/pets-gan-12 \
  --decay-share 0.55 --steps 2912 --out runs/pets-gan-13 "$@"
python -m recipes.bundle runs/pets-gan-13/model runs/pets-gan-13/model runs/pets-gan-12/model 0.5 runs/pets-gan-11/model 0.2
# the bundled one had an earlier stage one until here, which did not know eyes and noses; what follows began with 368 steps
# on the present one before colour was erased, and was step 3,491 of 5,000, after which eyes got worse; its covariance of
# appearances, which was kept too large until then, was found anew from the pictures
accelerate launch generation/train_gan.py "${larger[@]}" --start-from runs/pets-gan-13 \
  --decay-share 0 --steps 3859 --out runs/pets-gan-14 "$@"
# the last began with the discriminator as it was after the 5,000
accelerate launch generation/train_gan.py "${larger[@]}" --start-from runs/pets-gan-14 --structure-weight 3 \
  --appearance-weight 4 --divergence-weight 0.006 --augment 1 --learning-rate 4e-4 --steps 4300 --out runs/pets-gan-15 "$@"
python -m recipes.bundle runs/pets-gan-15/model checkpoints/pets-gan runs/pets-gan-14/model 0.7
