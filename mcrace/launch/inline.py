"""No workers at all: shards one after another in this process, for debugging and small studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mcrace.errors import VersionError
from mcrace.plan import Shard
from mcrace.worker import Receipt, run_shard

Outcome = tuple[Shard, Receipt | None, str]


def in_this_process(shards: Iterable[Shard], directory: str) -> Iterator[Outcome]:
    """Compute shards; yields each with its receipt, or with what went wrong."""
    for shard in shards:
        try:
            yield shard, run_shard(shard, directory), ""
        except VersionError:
            raise
        except Exception as error:  # a broken shard must not lose the others
            yield shard, None, f"{type(error).__name__}: {error}"
