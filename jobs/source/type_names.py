"""The Arrow types that `source.types` names, such as timestamp[us, UTC]."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping

import pyarrow as pa

from transforms.errors import SpecError

VALID = (
    "string, bool, int8 to int64, uint8 to uint64, float, double, date32, timestamp[us], timestamp[us, UTC], "
    "time32[s], time64[us], decimal128(10, 2), binary"
)
NAMED = {str(name): pa.type_for_alias(name) for name in (
    "string", "large_string", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float", "float32", "double", "float64", "date32", "binary", "large_binary",
    "time32[s]", "time32[ms]", "time64[us]", "time64[ns]",
)} | {"date32[day]": pa.date32()}  # fmt: skip


def parse(types: Mapping[str, str] | None) -> dict[str, pa.DataType]:
    """The Arrow types that `source.types` names.

    Raises:
        SpecError: a name is not a type.
    """
    return {column: _parse(column, name) for column, name in (types or {}).items()}


def _parse(column: str, name: str) -> pa.DataType:
    compact = re.sub(r"\s", "", name)
    try:
        if compact in NAMED:
            return NAMED[compact]
        if match := re.fullmatch(r"timestamp\[(s|ms|us|ns)(?:,(?:tz=)?(.+))?\]", compact):
            unit, zone = match.groups()
            if zone is not None and not re.fullmatch(r"[+-]\d\d:\d\d", zone):
                zoneinfo.ZoneInfo(zone)
            return pa.timestamp(unit, zone)
        if match := re.fullmatch(r"decimal(128|256)\((\d+)(?:,(\d+))?\)", compact):
            make = pa.decimal128 if match[1] == "128" else pa.decimal256
            if int(match[3] or 0) <= int(match[2]):
                return make(int(match[2]), int(match[3] or 0))
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        pass
    raise SpecError(f"source.types.{column} is {name!r}, which is not a type of a column; types: {VALID}")
