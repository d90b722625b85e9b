#!/usr/bin/env bash
# Trains on several nodes of a Slurm cluster:  sbatch examples/slurm.sh
#
# Environment, config, records and model_dir are on a file system that all nodes see. A worker that is lost (status 137 if
# it was killed) ends the others with status 75; then the job queues itself again, and continues from the newest checkpoint.
# So it does after Slurm's SIGTERM before the time limit, which saves a checkpoint (143). Any other status ends it.
#SBATCH --job-name=od_eval
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append

set -uo pipefail

port=$((20000 + SLURM_JOB_ID % 10000))
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
printf -v workers '"%s:'"$port"'", ' "${hosts[@]}"
export CLUSTER="{\"worker\": [${workers%, }]}"

# shellcheck disable=SC2016  # the variables of each task
srun --kill-on-bad-exit=0 bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec od-eval train --num_workers="$SLURM_NTASKS" --cluster_timeout=1800 \
    --pipeline_config_path=/shared/pipeline.config --model_dir=/shared/runs/a
'
status=$?  # the highest of all tasks

case $status in
  75 | 137 | 143) [ "${SLURM_RESTART_COUNT:-0}" -ge 20 ] || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $status
