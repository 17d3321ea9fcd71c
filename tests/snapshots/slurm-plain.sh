#!/bin/bash
#SBATCH --job-name=array-1-race-digits
#SBATCH --array=1-2
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=64
#SBATCH --mem=40000M
#SBATCH --time=01:30:00
#SBATCH --output=array-1-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

share=$((0 + ${SLURM_ARRAY_TASK_ID:-1}))

# a signal before the time limit is passed on; what is under way is given up, what is published stays
task=
trap 'told=1; kill -USR1 $task' USR1
trap 'told=1; kill -TERM $task' TERM
/opt/python/bin/python -m mcrace run '/scratch/o'"'"'brien/my results/jobs/3/study.toml' -o '/scratch/o'"'"'brien/my results' --share "$share/2" --workers 64 --shard-size 16 --versions 'mcrace=0.1.0 numpy=2.4.6' &
task=$!
while told=; wait "$task"; code=$?; [ -n "$told" ]; do :; done
trap '' USR1 TERM
if [ "$code" -eq 85 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
fi
exit "$code"
