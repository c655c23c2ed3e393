"""The name of a table in a job file: `delta://FOLDER`, or `iceberg://catalog/namespace.name`."""

from __future__ import annotations

import re

_ICEBERG = re.compile(r"iceberg://([^/\s]+)/([^/\s]+\.[^/.\s]+)")


def check_table(value: str | None) -> str | None:
    """The value, if it names a table.

    Raises:
        ValueError: with the two forms.
    """
    if value is None or (value.startswith("delta://") and value != "delta://") or _ICEBERG.fullmatch(value):
        return value
    raise ValueError(
        f"{value!r} is not a table; write delta:// and then a folder or URL, such as delta:///lake/reviews or "
        f"delta://s3://bucket/reviews, or iceberg://catalog/namespace.name"
    )


def delta_folder(value: str) -> str | None:
    """The folder or URL of a Delta table; None for an Iceberg table."""
    return value.removeprefix("delta://") if value.startswith("delta://") else None


def iceberg_name(value: str) -> tuple[str, str]:
    """(catalog, namespace.name) of an Iceberg table."""
    found = _ICEBERG.fullmatch(value)
    assert found is not None
    return found[1], found[2]
