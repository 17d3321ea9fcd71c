#!/bin/bash -l
#PBS -N again-race-digi
#PBS -l select=1:ncpus=64:mem=40000mb
#PBS -l walltime=01:30:00
#PBS -j oe
#PBS -r y
#PBS -q compute
#PBS -A physics
#PBS --constraint=avx512

module load python/3.12
source '/home/o'"'"'brien/venv/bin/activate'
export NUMBA_CACHE_DIR='/tmp/$USER'
share=$MCRACE_SHARE

# a signal before the time limit is passed on; what is under way is given up, what is published stays
task=
trap 'told=1; kill -USR1 $task' USR1
trap 'told=1; kill -TERM $task' TERM
timeout --foreground --preserve-status --signal=USR1 5280 /opt/python/bin/python -m mcrace run '/scratch/o'"'"'brien/my results/jobs/3/study.toml' -o '/scratch/o'"'"'brien/my results' --share "$share/1500" --workers 64 --versions 'mcrace=0.1.0 numpy=2.4.6' &
task=$!
while told=; wait "$task"; code=$?; [ -n "$told" ]; do :; done
trap '' USR1 TERM
if [ "$code" -eq 85 ] && [ "${MCRACE_RESTARTS:-0}" -lt 20 ]; then
    cd '/scratch/o'"'"'brien/my results/jobs/3' || exit 1
    again=$(qsub -v "MCRACE_SHARE=$share,MCRACE_RESTARTS=$((${MCRACE_RESTARTS:-0} + 1))" again.sh) &&
        qsub -W "depend=afterany:$again" final.sh
fi
exit "$code"
