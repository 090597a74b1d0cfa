#!/bin/bash
# sbatch docs/launch/slurm.sh score texts.parquet --world captions_val2014.json --images val2014 ...
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c 'accelerate launch --config_file docs/launch/2x8_gpus.yaml --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$0" -m dd "$@"' "$first" "$@"
