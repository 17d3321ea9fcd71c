"""The cells of a study file: a sweep's grid, zip and random draws, and the named variations."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from mcrace.errors import nearest
from mcrace.seeds import generator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9=,+_.-]{0,99}")
MAX_CELLS = 10_000
MAX_DRAWN = 1_000_000
HALF_STEP = "+half-step"


def plain_name(name: str) -> str:
    """The name, if it is fit for a file and a group."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, and = , + _ . - after a letter or digit, 100 at most")
    if name.endswith(HALF_STEP):
        raise ValueError(f"names that end in {HALF_STEP} are kept for the cells at half the step")
    return name


def variations(raw: dict[str, Any], entropy: int, mistakes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of cells with the dotted keys that each replaces: the sweep (or the base alone), then the named cells."""
    names: set[str] = set()
    swept = list(_sweep(raw.get("sweep", {}), entropy, mistakes))
    for name, overrides in zip(_cell_names(swept), swept):
        if name in names:  # values that agree in six digits
            name = f"{name[:90]}+{len(names)}"
        names.add(name)
        yield name, overrides
    cells = raw.get("cells", [])
    if not isinstance(cells, list) or any(not isinstance(c, dict) for c in cells):
        mistakes.append("cells: each is a table of its own, [[cells]]")
        return
    if len(names) + len(cells) > MAX_CELLS:
        mistakes.append(f"cells: {len(names) + len(cells):,} in all, with those of the sweep; {MAX_CELLS:,} at most")
        return
    for number, cell in enumerate(cells):
        overrides = flat({k: v for k, v in cell.items() if k != "name"})
        name = cell.get("name")
        try:
            plain_name(name if isinstance(name, str) else "")
        except ValueError as error:
            mistakes.append(f"cells.{number}.name: {'is missing' if name is None else error}")
            continue
        if name in names:
            mistakes.append(f"cells.{number}.name: {name!r} is taken")
            continue
        names.add(name)
        yield name, overrides


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys.

    >>> flat({"init": {"scale": 1.0}})
    {'init.scale': 1.0}
    """
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def _sweep(sweep: dict[str, Any], entropy: int, mistakes: list[str]) -> Iterator[dict[str, Any]]:
    """The product of a grid, of lists taken together (zip), and of random draws."""
    if unknown := [k for k in sweep if k not in ("grid", "zip", "random")]:
        mistakes.extend(f"sweep.{k}: unknown key: {nearest(k, ['grid', 'zip', 'random'])}" for k in unknown)
        return
    grid, together, draws = (sweep.get(k, {}) for k in ("grid", "zip", "random"))
    if any(not isinstance(t, dict) for t in (grid, together, draws)):
        mistakes.append("sweep: grid, zip and random are tables")
        return
    grid, together = ({k: v for k, v in t.items()} for t in (grid, together))
    for key, values in [*grid.items(), *together.items()]:
        if not isinstance(values, list) or not values:
            mistakes.append(f"sweep: {key}: must be a list of values, with quotes round its dotted key")
            return
    if len({len(v) for v in together.values()}) > 1:
        mistakes.append("sweep.zip: the lists must be of one length")
        return
    axes = [[{k: x} for x in v] for k, v in grid.items()]
    if together:
        axes.append([dict(zip(together, row)) for row in zip(*together.values())])
    if draws:
        axes.append(_random_draws(draws, entropy, mistakes))
    if math.prod(len(a) for a in axes) > MAX_CELLS:
        mistakes.append(f"sweep: makes more than {MAX_CELLS:,} cells")
        return
    for row in itertools.product(*axes):
        yield {k: v for part in row for k, v in part.items()}


def _random_draws(table: dict[str, Any], entropy: int, mistakes: list[str]) -> list[dict[str, Any]]:
    """`draws` points, each key uniform between low and high, or log-uniform."""
    ranges, count = {k: v for k, v in table.items() if k != "draws"}, table.get("draws")
    if not _is_number(count) or not isinstance(count, int) or not 1 <= count <= MAX_CELLS:
        mistakes.append(f"sweep.random.draws: a number from 1 to {MAX_CELLS:,}")
        return []
    for key, span in ranges.items():
        numbers = isinstance(span, dict) and all(_is_number(span.get(k)) for k in ("low", "high"))
        if not numbers or span["low"] >= span["high"] or (span.get("log") and span["low"] <= 0):
            mistakes.append(f"sweep.random: {key}: needs {{ low, high }} with low < high, and log = true where low > 0")
            return []
    if count * len(ranges) > MAX_DRAWN:
        mistakes.append(f"sweep.random: draws {count * len(ranges):,} numbers; {MAX_DRAWN:,} at most")
        return []
    uniform = generator(entropy, "sweep").random((count, len(ranges)))
    rows = []
    for row in uniform:
        point = {}
        for u, (key, span) in zip(row, ranges.items()):
            low, high = span["low"], span["high"]
            point[key] = float(low * (high / low) ** u) if span.get("log") else float(low + (high - low) * u)
        rows.append(point)
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _cell_names(swept: list[dict[str, Any]]) -> list[str]:
    """Names of the first keys that tell the cells of a sweep apart: what follows, as with zip, would only make them long."""
    for count in range(1, max(map(len, swept), default=0)):
        names = [_cell_name(dict(itertools.islice(overrides.items(), count))) for overrides in swept]
        if len(set(names)) == len(names):
            return names
    return [_cell_name(overrides) for overrides in swept]


def _cell_name(overrides: dict[str, Any]) -> str:
    if not overrides:
        return "main"
    parts = []
    for key, value in overrides.items():
        kind = value.get("kind") if isinstance(value, dict) else None
        text = f"{value:.6g}" if isinstance(value, float) else json.dumps(kind or value, default=str)
        parts.append(key.split(".")[-1] + "=" + re.sub(r"[^A-Za-z0-9+_.-]+", "-", text).strip("-"))
    return ",".join(parts)[:100]
