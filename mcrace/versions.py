"""The versions on which the bits of a network hang: those that a plan was made with, and those of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import metadata

import mcrace
from mcrace.observe import OBSERVABLES
from mcrace.plan import ENGINE
from mcrace.stages import STAGES
from mcrace.study import Study
from mcrace.tasks import TASKS

PACKAGES = ("numba", "llvmlite", "numpy")


def versions(study: Study) -> str:
    """mcrace, ENGINE, the libraries, and the packages whose tasks, observables and stages a study uses, as name=version.

    Parameters
    ----------
    study : Study
        Completed.

    Returns
    -------
    str
        Separated by spaces.
    """
    names = ["mcrace", "engine", *PACKAGES, *sorted(set(_plug_ins(study)) - {""})]
    return " ".join(f"{name}={_here(name)}" for name in names)


def unlike(planned: str) -> str:
    """What separates the versions here from those of a plan, in words; empty where nothing does.

    >>> unlike("numpy=0.1 numba=" + metadata.version("numba")).replace(metadata.version("numpy"), "...")
    'numpy is 0.1 in the plan and ... here'
    """
    pairs = [item.split("=", 1) for item in planned.split()]
    return ", ".join(f"{name} is {there} in the plan and {_here(name)} here" for name, there in pairs if there != _here(name))


def _plug_ins(study: Study) -> Iterator[str]:
    for cell in study.cells:
        yield TASKS.package(cell.config.task.kind)
        for item in cell.config.record.observables:
            yield OBSERVABLES.package(item.partition("@")[0])
        for name in cell.config.record.stages:
            yield STAGES.package(name)


@cache
def _here(name: str) -> str:
    if name == "mcrace":
        return mcrace.__version__
    if name == "engine":
        return str(ENGINE)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"
