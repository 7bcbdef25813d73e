#!/bin/bash
# One search on several Slurm nodes: sbatch examples/cluster/slurm.sh
# Needs jaxrank with the extras cuda12 and ray, in one virtual environment that all nodes see; see
# docs/clusters.md.
#SBATCH --job-name=jaxrank
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=02:00:00
#SBATCH --requeue
# Two minutes before the time is up: the search saves, and the next run of this job resumes it.
#SBATCH --signal=B:TERM@120

set -euo pipefail

pairs=${PAIRS:-pairs.csv}
features=${FEATURES:-store}
workdir=${WORKDIR:-search}
gpus_per_node=${SLURM_GPUS_ON_NODE:-4}

# Whoever reaches a Ray cluster without a token runs programs as you.
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
address="$head_ip:$port"

# srun does not inherit --cpus-per-task of sbatch since Slurm 22.05.
srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --overlap --nodelist="$head" \
  ray start --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false \
  --num-gpus="$gpus_per_node" --block &
first=$!
until ray status --address="$address" > /dev/null 2>&1; do
  kill -0 "$first" # ends the job where the first node's Ray has ended
  sleep 2
done
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --overlap --nodelist="$node" \
    ray start --address="$address" --num-gpus="$gpus_per_node" --block &
done

# --resume begins the search where there is none yet.
jaxrank search --resume --workdir="$workdir" --pairs="$pairs" --features="$features" --folds=5 \
  --engine=ray --ray_address="$address" --workers=$((SLURM_JOB_NUM_NODES * gpus_per_node)) \
  --gpus_per_worker=1 &
search=$!
trap 'kill -TERM "$search"' TERM
status=0
wait "$search" || status=$?
if kill -0 "$search" 2> /dev/null; then # the signal ended the first wait
  status=0
  wait "$search" || status=$?
fi
ray stop > /dev/null 2>&1 || true
exit "$status"
