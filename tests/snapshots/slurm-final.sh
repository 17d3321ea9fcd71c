#!/bin/bash -l
#SBATCH --job-name=final-race-digits
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=40000M
#SBATCH --time=01:00:00
#SBATCH --output=final.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --partition=compute
#SBATCH --account=physics
#SBATCH --constraint=avx512

module load python/3.12
source '/home/o'"'"'brien/venv/bin/activate'
export NUMBA_CACHE_DIR='/tmp/$USER'
/opt/python/bin/python -m mcrace merge '/scratch/o'"'"'brien/my results' --complete
code=$?
/opt/python/bin/python -m mcrace test '/scratch/o'"'"'brien/my results'
/opt/python/bin/python -m mcrace report '/scratch/o'"'"'brien/my results'
exit "$code"
