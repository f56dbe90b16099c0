#!/usr/bin/env bash
#SBATCH --job-name=initbench
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
# sbatch slurm.sh: one Ray node a machine, the sweep on the first; the results folder is on a file system that the first one sees.
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port=6379 --num-cpus="$SLURM_CPUS_PER_TASK" --block &
sleep 15
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
    ray start --address="$head:6379" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi
initbench sweep -c depth_scheme --ray-address "$head:6379"
