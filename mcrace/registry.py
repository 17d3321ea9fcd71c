"""Names for things that can be added: by decorator here, by entry point from an installed package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from mcrace.errors import StudyError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one sort, by name.

    Parameters
    ----------
    sort : str
        What a thing is called in messages.
    group : str
        The group of entry points in which installed packages offer more.
    """

    def __init__(self, sort: str, group: str) -> None:
        self.sort, self.group = sort, group
        self._things: dict[str, T] = {}
        self._loaded = False
        self._packages: dict[str, str] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """A decorator that registers a thing."""

        def register(thing: T) -> T:
            if self._things.get(name, thing) is not thing:
                raise ValueError(f"the {self.sort} {name!r} is there already")
            self._things[name] = thing
            return thing

        return register

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            for point in entry_points(group=self.group):
                point.load()
                if point.dist:
                    self._packages[point.module.partition(".")[0]] = point.dist.name

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._things[name]
        except KeyError:
            raise StudyError(f"unknown {self.sort} {name!r}: {nearest(name, self._things)}") from None

    def package(self, name: str) -> str:
        """The installed distribution whose entry point offers a thing; empty for one of mcrace's own."""
        thing = self[name]
        module = getattr(thing, "compute", thing).__module__
        return self._packages.get(module.partition(".")[0], "")

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._things))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._things
