"""The name of a model on the Hub: `org/name`, or `org/name:subfolder` for one of several in a repository."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<repository>([\w.-]+/)?[\w.-]+)(:(?P<subfolder>[\w.-]+(/[\w.-]+)*)/?)?")


@dataclass(frozen=True)
class Name:
    """A model on the Hub.

    Attributes:
        repository: org/name.
        subfolder: the folder of the model in its repository; empty for the repository itself.
    """

    repository: str
    subfolder: str = ""

    def __str__(self) -> str:
        return f"{self.repository}:{self.subfolder}" if self.subfolder else self.repository


def parse(name: str) -> Name | None:
    """The parts of a name; None for a text that names no model of the Hub, such as a path."""
    found = _NAME.fullmatch(name)
    if found is None or name.startswith((".", "/", "~")) or ".." in name:
        return None
    return Name(found["repository"], found["subfolder"] or "")
