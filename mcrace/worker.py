"""One shard from start to finish: pure in its arguments, but for the file that it publishes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from llvmlite import binding

from mcrace import __version__, store
from mcrace.compiled import seconds_in_compiled_code
from mcrace.dynamics import dynamics_of
from mcrace.errors import VersionError
from mcrace.kernels import LayeredNetworks, choose
from mcrace.observe import OBSERVABLES
from mcrace.plan import ENGINE, Shard
from mcrace.recording import COORDINATES, Recorder, Status
from mcrace.schedule import times_at
from mcrace.sections import SECTIONS, Config, recording_steps
from mcrace.stages import STAGES, Trained
from mcrace.store import Variable
from mcrace.tasks import TASKS
from mcrace.training import train
from mcrace.versions import unlike


@dataclass(frozen=True)
class Receipt:
    """What a worker says of a shard that it has published.

    Attributes
    ----------
    shard : Shard
    seconds : float
        That it took; 0 if it was there.
    compiled_seconds : float
        Of these, in compiled code.
    statuses : dict of int
        How many networks ended how.
    """

    shard: Shard
    seconds: float
    compiled_seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def networks(self) -> int:
        """How many networks it holds."""
        return self.shard.stop - self.shard.first


def run_shard(shard: Shard, directory: str) -> Receipt:
    """Compute a shard and publish it; if it is there already, do nothing.

    Parameters
    ----------
    shard : Shard
    directory : str
        The results directory.

    Raises
    ------
    VersionError
        If mcrace, ENGINE, a library or a plug-in here is another than in the plan.
    """
    if words := unlike(shard.versions):
        raise VersionError(f"a worker on {platform.node()} has other versions than the plan: {words}; use the same everywhere")
    path = store.shard_path(Path(directory), shard.identity, shard.first, shard.stop)
    began, compiled_before = time.perf_counter(), seconds_in_compiled_code()
    if path.exists():
        return Receipt(shard, 0.0)
    variables = compute(shard, load_pool(shard.data))
    attributes = {"identity": shard.identity, "first": shard.first, "stop": shard.stop,
                  "seconds": time.perf_counter() - began, "kernel": kernel_of(configuration(shard.config))}
    store.write_shard(path, variables, {**attributes, **environment()})
    codes, counts = np.unique(variables["status"].values, return_counts=True)
    return Receipt(shard, time.perf_counter() - began, seconds_in_compiled_code() - compiled_before,
                   {Status(c).name.lower(): int(n) for c, n in zip(codes, counts)})


def compute(shard: Shard, pool: dict[str, np.ndarray]) -> dict[str, Variable]:
    """The variables of a shard."""
    config = configuration(shard.config)
    times = recording_steps(config.record.times, config.training.steps)
    seeds = np.arange(shard.first, shard.stop)
    record = train(config, pool, shard.entropy, seeds, times, shard.batch)
    variables = _variables(record, seeds, config)
    for name in config.record.stages:
        variables |= STAGES[name].run(Trained(config, pool, shard.entropy, seeds, shard.batch, record))
    return variables


def configuration(plain: dict[str, Any]) -> Config:
    """The configuration from its plain form."""
    task = TASKS[plain["task"]["kind"]].model_validate(plain["task"])
    rest = {part: SECTIONS[part].model_validate(plain[part]) for part in ("network", "training", "record")}
    return Config(task=task, **rest)  # type: ignore[arg-type]


def kernel_of(config: Config) -> str:
    """The name of the kernel that trains a cell: a pure function of its configuration."""
    training = config.training
    if config.layered:
        return LayeredNetworks.kernel
    plain = not (training.weight_decay or training.kept_velocity or training.batch)
    return choose(config.task.inputs(), config.network.hidden[0], config.task.samples, training.dtype, plain,
                  dynamics_of(config), training.gradient == "population").kernel


def _variables(run: Recorder, seeds: np.ndarray, config: Config) -> dict[str, Variable]:
    """What a run recorded, with dimensions and units."""
    steps = {"units": "step"}
    first_step = {"description": "first step in the state; -1: never", **steps}
    meanings = "; ".join(f"{s.value} {s.name.lower()}: {s.text}" for s in Status)
    out = {
        "seed": Variable(("seed",), seeds),
        "time": Variable(("time",), times_at(config.training, run.times), {"units": "sum of step sizes"}),
        "step": Variable(("time",), run.times, steps),
        "state": Variable(("state",), np.array(run.states, object)),
        "state_step": Variable(("seed", "state"), run.state_step, first_step),
        "status": Variable(("seed",), run.status, {"description": meanings}),
        "stop_step": Variable(("seed",), run.stop_step, {"description": "step at which the network ended", **steps}),
    }
    for where, suffix, place in ((run.grid, "", ("time",)), (run.at, "_at", ("state",)), (run.paths, "", ())):
        for name, values in where.items():
            observable = OBSERVABLES[name]
            notes = {"description": observable.text, "units": observable.units}
            out[name + suffix] = Variable(("seed", *place, *observable.dims), values, notes)
            out |= {dim: Variable((dim,), COORDINATES[dim]) for dim in observable.dims if dim in COORDINATES}
    for name, values in run.weights.items():
        state = next((s for s in ("start", "final") if name.endswith(f"_{s}")), "")
        symbol = name.removesuffix(f"_{state}")
        dims = ("seed", *(() if state else ("time",)), *run.parameters[symbol])
        out[name] = Variable(dims, values, {"description": f"weights {symbol}" + (f" at state {state}" if state else "")})
    return out


@lru_cache(maxsize=4)
def load_pool(path: str) -> dict[str, np.ndarray]:
    """The shared data of a task, read once a process."""
    if not path:
        return {}
    store.check_seal(Path(path))
    with store.opened(Path(path)) as file:
        names = file.attrs["arrays"].split()
        return {name: store.read(file, name, Path(path)) for name in names}


@cache
def environment() -> dict[str, str]:
    """Versions and machine, as they go into every file."""
    packages = ("numba", "llvmlite", "numpy", "scipy", "h5py", "dask")
    return {
        "mcrace_version": __version__,
        "engine": str(ENGINE),
        "versions": " ".join(f"{p}={version(p)}" for p in packages),
        "python": platform.python_version(),
        "cpu": binding.get_host_cpu_name(),
        "git_commit": _git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str:
    """The commit that mcrace was installed from, or that its checkout stands at; empty where there is none."""
    try:
        installed = json.loads(distribution("mcrace").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # run from a folder of its own
        installed = {}
    if commit := installed.get("vcs_info", {}).get("commit_id"):
        return commit
    for root in (Path(__file__).parents[1], Path(urlparse(installed.get("url", "")).path)):
        if (root / ".git").exists() and (root / "mcrace").is_dir():
            command = ["git", "-C", os.fspath(root), "rev-parse", "HEAD"]
            try:
                return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
            except (OSError, subprocess.TimeoutExpired):
                return ""
    return ""
