#!/usr/bin/env bash
# On each of two hosts of eight GPUs: launch/torchrun.sh FIRST_HOST distil --scale paper
# A process that fails is started again, up to 100 times; `distilnb launch` also outlives a launcher, and the first host.
torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 100 \
  --rdzv-backend c10d --rdzv-endpoint "$1:29400" -m distilnb "${@:2}"
