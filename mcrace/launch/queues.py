"""Handing scripts to Slurm, PBS or LSF by their own programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from mcrace.errors import StudyError
from mcrace.launch.scripts import System

PROGRAMS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
ANSWERS = {"slurm": r"(\d+)(;.*)?", "pbs": r"([0-9]+(\[\])?[A-Za-z0-9_.-]*)", "lsf": r"Job <(\d+)>.*"}


def program(system: System) -> str:
    """The program that takes jobs.

    Raises
    ------
    StudyError
        If it is not on this machine.
    """
    name = PROGRAMS[system]
    found = shutil.which(name)
    if found is None:
        raise StudyError(f"{name}: there is no such program here, so nothing can be submitted; "
                         "run this on a login node of the cluster, or see the scripts with --dry-run")
    return found


def hand_in(system: System, script: Path, after: list[str]) -> str:
    """Submit a script from its own folder, to start after any outcome of some jobs; returns the new job's id.

    Raises
    ------
    StudyError
        With what the batch system says, if it refuses.
    """
    waiting = {"slurm": [f"--dependency=afterany:{':'.join(after)}"],
               "pbs": ["-W", f"depend=afterany:{':'.join(after)}"],
               "lsf": ["-w", " && ".join(f"ended({job})" for job in after)]}[system] if after else []
    command = [program(system), *(["--parsable"] if system == "slurm" else []), *waiting]
    command += [] if system == "lsf" else [script.name]
    with open(script) as text:  # bsub reads the script itself
        answer = subprocess.run(command, cwd=script.parent, stdin=text if system == "lsf" else subprocess.DEVNULL,
                                capture_output=True, text=True)
    found = re.search(rf"^{ANSWERS[system]}$", answer.stdout.strip(), re.MULTILINE)
    if answer.returncode or not found:
        said = " ".join((answer.stderr or answer.stdout).split()) or f"exit code {answer.returncode}"
        raise StudyError(f"{PROGRAMS[system]} does not take {script}: {said}")
    return found[1]
