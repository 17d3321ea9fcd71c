#!/bin/bash -l
#SBATCH --job-name=dask-race-digits
#SBATCH --ntasks=256
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=625M
#SBATCH --time=01:30:00
#SBATCH --output=dask-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --partition=compute
#SBATCH --account=physics
#SBATCH --constraint=avx512

module load python/3.12
source '/home/o'"'"'brien/venv/bin/activate'
export NUMBA_CACHE_DIR='/tmp/$USER'

# credentials of this allocation alone, which nobody else may read
private='/scratch/o'"'"'brien/my results/jobs/3'/private-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
(umask 077 && mkdir "$private" && openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mcrace \
    -keyout "$private/key.pem" -out "$private/certificate.pem" 2>"$private/openssl.log") ||
    { echo "mcrace: openssl made no credentials:"; cat "$private/openssl.log"; exit 1; }
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES='[]'
export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]' DASK_LOGGING__DISTRIBUTED=critical
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL=1s DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL=10s
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$private/certificate.pem"
export DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT="$private/certificate.pem" DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY="$private/key.pem"
export DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT="$private/certificate.pem" DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY="$private/key.pem"
export DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT="$private/certificate.pem" DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY="$private/key.pem"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

/opt/python/bin/python -m distributed.cli.dask_scheduler --protocol tls:// --port 0 --no-dashboard \
    --dashboard-address 127.0.0.1:0 --scheduler-file "$private/scheduler.json" --interface ib0 &
scheduler=$!
srun --ntasks=256 --overlap --kill-on-bad-exit=0 --no-kill --wait=0 \
    /opt/python/bin/python -m distributed.cli.dask_worker --protocol tls:// --no-nanny --nthreads 1 --memory-limit 0 \
    --no-dashboard --dashboard-address 127.0.0.1:0 --death-timeout 120 --preload mcrace.worker \
    --scheduler-file "$private/scheduler.json" --interface ib0 &
workers=$!

# a signal before the time limit is passed on; what is under way is given up, what is published stays
task=
trap 'told=1; kill -USR1 $task' USR1
trap 'told=1; kill -TERM $task' TERM
/opt/python/bin/python -m mcrace run '/scratch/o'"'"'brien/my results/jobs/3/study.toml' -o '/scratch/o'"'"'brien/my results' --share 1/1 --scheduler-file "$private/scheduler.json" --versions 'mcrace=0.1.0 numpy=2.4.6' &
task=$!
while told=; wait "$task"; code=$?; [ -n "$told" ]; do :; done
trap '' USR1 TERM
kill "$scheduler" 2>/dev/null  # its workers end with it
for _ in {1..100}; do kill -0 "$workers" 2>/dev/null || break; sleep 0.1; done
kill "$workers" 2>/dev/null
wait "$workers" "$scheduler"
rm -rf "$private"
if [ "$code" -eq 85 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
fi
exit "$code"
