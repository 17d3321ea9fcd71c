#!/bin/bash -l
#BSUB -J "final-race-digits"
#BSUB -n 1
#BSUB -R "span[hosts=1]"
#BSUB -M 40000MB
#BSUB -W 1:00
#BSUB -o final.log
#BSUB -r
#BSUB -Q "85"
#BSUB -q compute
#BSUB -P physics
#BSUB --constraint=avx512

module load python/3.12
source '/home/o'"'"'brien/venv/bin/activate'
export NUMBA_CACHE_DIR='/tmp/$USER'
/opt/python/bin/python -m mcrace merge '/scratch/o'"'"'brien/my results' --complete
code=$?
/opt/python/bin/python -m mcrace test '/scratch/o'"'"'brien/my results'
/opt/python/bin/python -m mcrace report '/scratch/o'"'"'brien/my results'
exit "$code"
