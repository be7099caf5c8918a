#!/usr/bin/env bash
# On each of two hosts of eight GPUs: launch/torchrun.sh FIRST_HOST distil --scale paper
# A process that dies is started again, up to 100 times. A launcher that dies, and the other one when the first host is
# gone, is not; where hosts go away, a loop does it: until launch/torchrun.sh FIRST_HOST distil ...; do sleep 5; done
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # else a process that is started again may ask for one that died
torchrun --nnodes 2 --nproc-per-node "${PROCESSES:-8}" --max-restarts 100 \
  --rdzv-backend c10d --rdzv-endpoint "$1:29400" -m distilnb "${@:2}"
