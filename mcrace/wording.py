"""Numbers as a person says them."""

from __future__ import annotations

import math


def number(x: float) -> str:
    """Three digits behind the point, or three in all where it is small.

    >>> number(0.98765), number(0.0123456), number(math.nan)
    ('0.988', '0.0123', '-')
    """
    return "-" if not math.isfinite(x) else f"{x:.3g}" if abs(x) < 0.1 else f"{x:.3f}"


def interval(low: float, high: float) -> str:
    """An interval in brackets; empty where there is none."""
    return "" if not math.isfinite(low) else f"[{number(low)}, {number(high)}]"


def p_value(p: float) -> str:
    """A p-value; one below 1e-4 is not told more exactly."""
    return "-" if not math.isfinite(p) else "<1e-4" if p < 1e-4 else f"{p:.2g}"


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(42.3), duration(150), duration(9000)
    ('42 s', '2 min 30 s', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as a person says them.

    >>> size(3_500_000)
    '3.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
