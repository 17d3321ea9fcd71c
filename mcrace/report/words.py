"""A study in words: what was asked, of which networks, and how they were trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mcrace.errors import StudyError
from mcrace.predictions import Verdict
from mcrace.tasks import TASKS
from mcrace.wording import number

METHODS = {"gd": "Gradient descent", "heavy-ball": "Heavy ball", "sign": "Sign descent",
           "flow": "Gradient flow, by descent with halved steps and extrapolation", "adaptive": "Gradient flow, by a 5(4) pair"}
TOLD_OF_TASKS = ("kind", "samples", "fresh", "center", "scale", "permute_labels", "loss")


def task_in_words(task: Mapping[str, Any]) -> str:
    """What the networks learn."""
    try:
        about = " ".join((TASKS[task["kind"]].__doc__ or "").replace("`", "").split()).rstrip(".")
    except StudyError:  # of a plug-in that is not installed here
        about = ""
    options = ", ".join(f"{key} = {_plain(value)}" for key, value in task.items()
                        if key not in TOLD_OF_TASKS and value not in (None, False))
    parts = [f"{task['kind']}" + (f": {about}" if about else "") + (f" ({options})" if options else "") + "."]
    drawn = "drawn anew for each network" if task.get("fresh") else "the same for all networks"
    prepared = [text for text, holds in (("centred", task.get("center")),
                                         ("scaled to mean square 1", task.get("scale") == "unit-rms")) if holds]
    inputs = f"; inputs {' and '.join(prepared)}" if prepared else ""
    shuffled = "; labels shuffled" if task.get("permute_labels") else ""
    parts.append(f"{task['samples']:,} samples, {drawn}{inputs}{shuffled}. Loss: {task['loss']}.")
    return " ".join(parts)


def network_in_words(network: Mapping[str, Any]) -> str:
    """The networks and their random start."""
    init = network["init"]
    norms = "of equal norm" if init.get("norms") == "equal" else "normally distributed"
    text = f"One hidden layer of {_list(network['hidden'])} {_neurons(network)}. "
    text += f"At the start weights {norms}, scale {init['scale']:g}"
    if direction := init.get("direction"):
        text += f", directions concentrated round an axis (κ = {direction['kappa']:g})"
    if init["balanced"]:
        text += ", balanced (|v| = |w|)" if init["ratio"] == 1 else f", |w|/|v| = {init['ratio']:g}"
    else:
        text += ", not balanced"
    return text + (", in pairs whose outputs cancel." if init["paired"] else ".")


def _neurons(network: Mapping[str, Any]) -> str:
    kind = network.get("activation", "relu")
    name = {"relu": "ReLU", "leaky-relu": "leaky ReLU"}.get(kind, kind)
    given = [f" ({key} {network[key]:g})" for key in ("leak", "sharpness") if network.get(key) is not None]
    return f"{name} neurons{''.join(given)}"


def training_in_words(training: Mapping[str, Any]) -> str:
    """How they are trained."""
    method = METHODS.get(training["method"], training["method"])
    whole = "inputs, in closed form," if training.get("gradient") == "population" else "samples"
    batch = f", {training['batch']} samples a batch" if training.get("batch") else f", all {whole} at each step"
    text = f"{method}{batch}, step size {training['step_size']:g}, {training['steps']:,} steps at most"
    if (schedule := training.get("schedule")) and (schedule["kind"] != "constant" or schedule["warm_up"]):
        text += f", schedule {schedule['kind']}" + (f" with warm-up of {schedule['warm_up']}" if schedule["warm_up"] else "")
    for key, words in (("momentum", "momentum"), ("friction", "friction"), ("weight_decay", "weight decay")):
        if training.get(key):
            text += f", {words} {training[key]:g}"
    if training["method"] == "adaptive":
        text += f", tolerances {training['rtol']:g} (relative) and {training['atol']:g}"
    if until := training.get("until"):
        text += f", until {until['loss_drop']:.0%} of the zero output's loss is gone"
    return f"{text}; {training['dtype']}."


def swept_in_words(config: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """What a cell has otherwise than another."""
    idle = ("record.", "training.schedule.") if config["training"]["schedule"]["kind"] == "constant" else ("record.",)
    different = {key: value for key, value in _differences(base, config) if not key.startswith(idle)}
    return ", ".join(f"{key} = {_plain(value)}" for key, value in different.items()) or "-"


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in new:
            yield from _differences(old.get(name), new[name], f"{key}.{name}" if key else name)
    elif old != new:
        yield key, new


def budget_in_words(verdict: Verdict) -> list[str]:
    """The error budget of a verdict: what half the step changes, and how many networks gave no number."""
    parts = []
    if math.isfinite(verdict.half_step_change):
        allowed = verdict.margin.scale / 4
        limit = f" of {number(allowed)} allowed" if math.isfinite(allowed) else ""
        parts.append(f"half the step changes it by {number(verdict.half_step_change)}{limit}")
    if verdict.networks or verdict.dropped:
        parts.append(f"{verdict.dropped:,} of {verdict.networks + verdict.dropped:,} networks dropped")
    return parts or ["-"]


def _list(values: Any) -> str:
    return " and ".join(f"{v:,}" for v in values)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
