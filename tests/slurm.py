"""A Slurm of one's own on this machine, as root and without systemd: controller, node, and the daemon that signs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studies import wait_until

PACKAGES = ("slurmd", "slurmctld", "slurm-client", "munge")
PROGRAMS = ("slurmd", "slurmctld", "sbatch", "munged")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=5,socket={base}/munge.socket
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0,requeue_delay=0
KillWait=15
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={base}/log/jobcomp.txt
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=1:00:00 DefMemPerCPU=100 State=UP
"""


def why_not() -> str:
    """What keeps a Slurm from being started here; empty if nothing does.  Its packages are installed where they lack."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if all(shutil.which(name) for name in PROGRAMS):
        return ""
    if not shutil.which("apt-get"):
        return "there is no Slurm here, and no apt-get to install it"
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update"], install):  # the lists of packages may lack
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env=environment, capture_output=True, timeout=120)
        if all(shutil.which(name) for name in PROGRAMS):
            return ""
    return "there is no Slurm here, and apt-get cannot install it"


def said(*command: object) -> str:
    """What a program of Slurm prints."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30).stdout.strip()


@contextmanager
def machine(base: Path) -> Iterator[None]:
    """Start the daemons on free ports, in a folder of their own; they are gone at the end."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "log"):
        (base / name).mkdir()
    configuration = base / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, base=base, ports=_free_ports(2)))
    os.environ["SLURM_CONF"] = str(configuration)
    (base / "munge.key").write_bytes(os.urandom(128))
    (base / "munge.key").chmod(0o600)
    commands = [["munged", "--foreground", "--force", f"--socket={base}/munge.socket", f"--key-file={base}/munge.key",
                 f"--pid-file={base}/munged.pid", f"--log-file={base}/log/munged.log", f"--seed-file={base}/munge.seed"],
                ["slurmctld", "-D", "-f", str(configuration)], ["slurmd", "-D", "-f", str(configuration)]]
    daemons = []
    try:
        for command in commands:
            with open(base / "log" / f"{command[0]}.out", "w") as log:
                daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            if command[0] == "munged":
                assert wait_until((base / "munge.socket").exists, 20), logs(base)
        assert wait_until(lambda: said("sinfo", "-h", "-o", "%T") == "idle", 30), logs(base)
        yield
    finally:
        said("scancel", "--user=root")
        wait_until(lambda: not said("squeue", "-h"), 20)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        del os.environ["SLURM_CONF"]


def logs(folder: Path) -> str:
    """The ends of all logs in a folder, for the message of a test that fails."""
    found = [p for p in sorted(folder.rglob("*")) if p.suffix in (".log", ".out") and p.is_file()]
    return "\n".join(f"---- {p}\n{p.read_text(errors='replace')[-3000:]}" for p in found)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
