#!/bin/bash -l
#BSUB -J "array-2-race-digits[1-500]"
#BSUB -n 64
#BSUB -R "span[hosts=1]"
#BSUB -M 40000MB
#BSUB -W 1:30
#BSUB -o array-2-%I.log
#BSUB -r
#BSUB -Q "85"
#BSUB -q compute
#BSUB -P physics
#BSUB --constraint=avx512

module load python/3.12
source '/home/o'"'"'brien/venv/bin/activate'
export NUMBA_CACHE_DIR='/tmp/$USER'
share=$((1000 + ${LSB_JOBINDEX:-1}))

# a signal before the time limit is passed on; what is under way is given up, what is published stays
task=
trap 'told=1; kill -USR1 $task' USR1
trap 'told=1; kill -TERM $task' TERM
timeout --foreground --preserve-status --signal=USR1 5280 /opt/python/bin/python -m mcrace run '/scratch/o'"'"'brien/my results/jobs/3/study.toml' -o '/scratch/o'"'"'brien/my results' --share "$share/1500" --workers 64 --versions 'mcrace=0.1.0 numpy=2.4.6' &
task=$!
while told=; wait "$task"; code=$?; [ -n "$told" ]; do :; done
trap '' USR1 TERM
exit "$code"
