"""Completing a study: what its predictions need recorded, who is a control, and the cells at half the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mcrace.errors import StudyError, nearest
from mcrace.mistakes import listed, validated
from mcrace.observe import OBSERVABLES
from mcrace.predictions.base import Needs, Options, Prediction
from mcrace.predictions.judging import with_options
from mcrace.sections import Seeds, Training
from mcrace.stages import STAGES
from mcrace.study import Cell, Study
from mcrace.sweep import HALF_STEP

HALF_STEP_SHARE, HALF_STEP_LEAST = 10, 200


def complete(study: Study) -> Study:
    """The study with all that its predictions need: observables, roles of cells, cells at half the step.

    Raises
    ------
    StudyError
        If a prediction, an option, an observable or a control cell does not exist.
    """
    mistakes: list[str] = []
    wanted = list(_wanted(study, mistakes))
    if mistakes:
        raise StudyError(listed(mistakes))
    controls = {name for _, options in wanted for name in options.controls}
    mains = [c for c in study.cells if c.name not in controls]
    needs = [prediction.needs(options) for prediction, options in wanted]
    about = [(need, _judged(options, study, controls)) for need, (_, options) in zip(needs, wanted)]
    of_cell = {c.name: [need for need, judged in about if c.name in judged] for c in study.cells}
    halved_stages = {c.name: _stages(c, [need for need in of_cell[c.name] if need.half_step_stages]) for c in study.cells}
    cells = [_recording(c, of_cell[c.name]) for c in study.cells]
    _check_observables(cells)
    _check_layers(cells)
    halved = {name for need, (_, o) in zip(needs, wanted) if need.control_half_step for name in o.controls}
    halved |= {name for need, judged in about if need.half_step for name in judged if name not in controls}
    cells = [replace(c, role="control", of=mains[0].name if len(mains) == 1 else "") if c.name in controls else c
             for c in cells]
    cells += [_at_half_step(c, halved_stages[c.name]) for c in cells if c.name in halved]
    return replace(study, cells=tuple(cells))


def _judged(options: Options, study: Study, controls: set[str]) -> set[str]:
    """The cells that a prediction is judged on, and its controls."""
    return {*(options.cells or (c.name for c in study.cells if c.name not in controls)), *options.controls}


def _wanted(study: Study, mistakes: list[str]) -> Iterator[tuple[Prediction, Options]]:
    """The predictions with their options; whatever does not exist is added to the mistakes."""
    names = [c.name for c in study.cells]
    controls: set[str] = set()
    for name, table in study.predictions.items():
        try:
            prediction, options = with_options(name, table)
        except StudyError as error:
            mistakes.append(str(error))
            continue
        mistakes += [f"predictions.{name}.{key}: no cell {cell!r}: {nearest(cell, names)}" for key, cell in options
                     if cell in options.controls and cell not in names]
        mistakes += [f"predictions.{name}.cells: no cell {cell!r}: {nearest(cell, names)}" for cell in options.cells
                     if cell not in names]
        controls |= set(options.controls)
        yield prediction, options
    if study.predictions and controls >= set(names):
        mistakes.append(f"predictions: {', '.join(names)} is a control, so no cell is left to be judged")
    for item in dict.fromkeys(o for c in study.cells for o in c.config.record.observables):
        name, at, _ = item.partition("@")
        if name not in OBSERVABLES:
            mistakes.append(f"record.observables: unknown observable {name!r}: {nearest(name, OBSERVABLES)}")
        elif at and OBSERVABLES[name].path:
            mistakes.append(f"record.observables: {item!r} follows the whole way of a network, so it has no value at a state")
    for name in dict.fromkeys(s for c in study.cells for s in c.config.record.stages):
        if name not in STAGES:
            mistakes.append(f"record.stages: unknown stage {name!r}: {nearest(name, STAGES)}")


def _check_observables(cells: list[Cell]) -> None:
    """Whether observables mean something in the cells, and have what they look at; told of the first of each cell."""
    mistakes = []
    for cell in cells:
        asked, config = cell.config.record.observables, cell.config
        for lacking, attribute, sentence in (
            (not config.task.test_samples, "tests", "task.test_samples: is 0 in cell {cell}, but {name!r} needs test samples"),
            (config.task.image() is None, "images", "task.kind: {kind!r} has no images to corrupt in cell {cell}, but {name!r} "
                                                    "needs them"),
            (config.network.activation != "relu", "relu", "network.activation: is {activation!r} in cell {cell}, but "
                                                          "{name!r} means something for ReLU neurons only"),
            (config.training.gradient == "population", "samples", "training.gradient: is 'population' in cell {cell}, but "
                                                                  "{name!r} is about samples that are learnt from"),
        ):
            of_this = [o for o in asked if lacking and getattr(OBSERVABLES[o.partition("@")[0]], attribute)]
            if of_this:
                mistakes.append(sentence.format(cell=cell.name, name=of_this[0], activation=config.network.activation,
                                                kind=config.task.kind))
    if mistakes:
        raise StudyError(listed(mistakes))


def _check_layers(cells: list[Cell]) -> None:
    """Whether what is recorded is of such networks; told of the first observable, or stage, that is not, of each cell."""
    mistakes = []
    for cell in cells:
        record = cell.config.record
        if cell.config.layered:
            odd = [o for o in record.observables if OBSERVABLES[o.partition("@")[0]].networks == "one-layer"]
            odd += [s for s in record.stages if not STAGES[s].layered]
            mistakes += [f"cell {cell.name}: {one!r} is of networks with one hidden layer of ReLUs and one output, without "
                         "network.bias, network.norm and network.init.subtract_start" for one in odd[:1]]
    if mistakes:
        raise StudyError(listed(mistakes))


def _recording(cell: Cell, needs: list[Needs]) -> Cell:
    """The cell with what the predictions that look at it, and stages, need recorded."""
    record = cell.config.record
    stages = _stages(cell, needs)
    observables = (*(o for need in needs for o in need.observables), *(o for name in stages for o in STAGES[name].observables))
    union = tuple(dict.fromkeys((*record.observables, *observables)))
    return replace(cell, config=replace(cell.config, record=record.model_copy(update={"observables": union, "stages": stages})))


def _stages(cell: Cell, needs: list[Needs]) -> tuple[str, ...]:
    """Its own stages, and those that are needed."""
    return tuple(dict.fromkeys((*cell.config.record.stages, *(s for need in needs for s in need.stages))))


def _at_half_step(cell: Cell, stages: tuple[str, ...]) -> Cell:
    """The cell for the error budget: half the step, twice the steps, a tenth of the seeds but 200 at least."""
    config, count = cell.config, cell.seeds.count
    training = _halved(config.training)
    times = config.record.times
    doubled = tuple(2 * t for t in times) if isinstance(times, tuple) else times
    record = config.record.model_copy(update={"times": doubled, "weights": "none", "stages": stages})
    seeds = Seeds(first=cell.seeds.first, count=min(count, max(HALF_STEP_LEAST, count // HALF_STEP_SHARE)))
    return replace(cell, name=cell.name + HALF_STEP, role="half-step", of=cell.name, seeds=seeds,
                   config=replace(config, training=training, record=record))


def _halved(training: Training) -> Training:
    """The same flow in half the step: of a heavy ball by friction, whose step is sqrt(step_size), a quarter."""
    part = 4 if training.friction is not None else 2
    schedule = {"warm_up": 2 * training.schedule.warm_up, "every": 2 * training.schedule.every}
    halved = {"step_size": training.step_size / part, "steps": 2 * training.steps}
    tables = {**training.model_dump(), **halved, "schedule": {**training.schedule.model_dump(), **schedule}}
    return validated(Training, tables, "training (at half the step, which the predictions need)")
