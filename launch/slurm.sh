#!/usr/bin/env bash
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --requeue --signal=TERM@120
# sbatch launch/slurm.sh distil --scale paper       the paper's recipe on two nodes of eight GPUs
# A signal two minutes before the time is up saves the run; `sbatch` the same line again, and it goes on.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=0 distilnb launch --hosts "$SLURM_NNODES" --processes 8 --head "$head:29400" -- "$@"
