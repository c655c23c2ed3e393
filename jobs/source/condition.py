"""Checks that a condition reads a single row only, by the syntax tree from DuckDB's parser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

Tree = dict[str, Any]

# SQL keywords for the current time, which DuckDB parses as columns.
CLOCK = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}

# Kinds of syntax nodes that are refused -> their name in messages.
REFUSED = {
    "WINDOW": "a window function (OVER)",
    "SUBQUERY": "a subquery",
    "STAR": "* or COLUMNS(...)",
    "POSITIONAL_REFERENCE": "a column by its number",
    "PARAMETER": "a parameter",
    "DEFAULT": "DEFAULT",
}


class Refused(ValueError):
    """The condition cannot be used; the message gives the reason."""


class UnknownColumn(Refused):
    """The condition names a column that is not there."""


def parse(condition: str, connection: duckdb.DuckDBPyConnection) -> Tree:
    """The syntax tree of a condition.

    Raises:
        Refused: it is not SQL, or more than a condition.
    """
    if not condition.strip():
        raise Refused("it is empty; write a condition such as id = 17")
    tree = _query(f"(\n{condition}\n)", connection)
    if tree.get("error"):
        reason = str(tree.get("error_message")).splitlines()[0]
        # The condition is wrapped in parentheses: if it contains none, an error at `)` means that its end is missing.
        at_end = reason == 'syntax error at or near ")"' and ")" not in condition
        raise Refused("syntax error: something is missing at its end" if at_end else reason)
    found = tree["statements"][0]["node"].pop("where_clause", None)
    for node in nodes(found):
        if (what := REFUSED.get(node["class"])) is not None:
            raise Refused(f"it has {what}, but a condition is checked on one row; use only the columns of that row")
    # Apart from the condition the statement must equal the shortest one: no ORDER BY, no UNION, no second statement.
    shortest = _query("(true)", connection)
    shortest["statements"][0]["node"].pop("where_clause")
    if found is None or _without_places(tree) != _without_places(shortest):
        raise Refused("it is more than one condition; write only the text that follows WHERE")
    # The check above is in parentheses, so that no clause can follow; this one finds unbalanced parentheses.
    if (bare := _query(condition, connection)).get("error"):
        raise Refused(str(bare.get("error_message")).splitlines()[0])
    return dict(found)


def check_functions(tree: Tree, connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse functions over many rows, and functions that depend on more than their arguments.

    Raises:
        Refused: with the function's name.
    """
    called = {str(node["function_name"]).lower() for node in nodes(tree) if node["class"] == "FUNCTION"}
    if not called:
        return
    catalog = connection.execute(
        "SELECT function_name, function_type, stability, macro_definition FROM duckdb_functions()"
    ).fetchall()
    scalar = {name for name, kind, _, _ in catalog if kind in ("scalar", "macro")}
    over_rows = {name for name, kind, _, _ in catalog if kind in ("aggregate", "window")} - scalar
    if found := sorted(called & over_rows):
        shown = "count(*)" if found[0] == "count_star" else f"{found[0]}()"
        raise Refused(f"{shown} is computed over many rows, but a condition is checked on one row")
    unstable = {name for name, _, stability, _ in catalog if stability not in (None, "CONSISTENT")}
    # Macros that call one, such as ago(interval).
    word = re.compile(rf"\b({'|'.join(map(re.escape, sorted(unstable | CLOCK)))})\b")
    unstable |= {name for name, kind, _, text in catalog if kind == "macro" and word.search(text or "")}
    if found := sorted(called & unstable):
        raise Refused(
            f"{found[0]}() does not depend on the row alone, so a rerun would choose other rows; write the value "
            f"itself, or give the condition with each run"
        )


def named_columns(tree: Tree, columns: Sequence[str], condition: str, place: str = "the source") -> list[str]:
    """The columns that a condition names: an exact match, or else a match that ignores case.

    Args:
        tree: the condition, parsed.
        columns: those that there are.
        condition: its text.
        place: what has the columns, for errors.

    Raises:
        UnknownColumn: a name matches no column.
        Refused: a name matches several columns, or two columns differ only in case.
    """
    parameters = {
        name.lower() for node in nodes(tree) if node["class"] == "LAMBDA" for name in _references(node["lhs"])
    }
    found: dict[str, str] = {}
    for name in dict.fromkeys(_references(tree)):
        fits = [name] if name in columns else [column for column in columns if column.lower() == name.lower()]
        if len(fits) > 1:
            raise Refused(f"{name!r} may be {' or '.join(map(repr, fits))}; spell it as one of them")
        if not fits and name.lower() not in parameters:
            raise _unknown(name, columns, condition, place)
        for column in fits:
            if (other := found.setdefault(column.lower(), column)) != column:
                raise Refused(f"it names {other!r} and {column!r}, which are the same name in SQL; rename one of them")
    return list(found.values())


def nodes(tree: Any) -> Iterator[Tree]:
    """Every expression of a syntax tree."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def _query(condition: str, connection: duckdb.DuckDBPyConnection) -> Tree:
    query = f"SELECT 1 FROM source WHERE {condition}"
    answer = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    return dict(json.loads(answer[0][0]))


def _references(tree: Tree) -> Iterator[str]:
    """First names of the column references in a tree: `a` of `a`, `a.b` and `a.lower()`."""
    for node in nodes(tree):
        if node["class"] == "COLUMN_REF":
            yield str(node["column_names"][0])
        elif node["class"] == "FUNCTION" and len(path := node["qualified_name"]["path"]) > 1:
            yield str(path[0])


def _unknown(name: str, columns: Sequence[str], condition: str, place: str) -> Refused:
    if name.lower() in CLOCK:
        return Refused(
            f"{name} would choose other rows in a rerun; write the date or time, or give the condition with each run"
        )
    word = re.escape(name)
    is_value = re.search(rf"\"{word}\"|([=<>]|\blike|\bin\s*\()\s*{word}\b", condition, re.IGNORECASE)
    quotes = f"; text goes in single quotes: '{name}'" if is_value else ""
    dotted = next((column for column in columns if column.startswith(f"{name}.") and column in condition), None)
    if dotted is not None:
        quotes = f'; write a column whose name has a dot in double quotes: "{dotted}"'
    return UnknownColumn(f"column {name!r} is not in {place}{quotes}")


def _without_places(tree: Any) -> Any:
    """The tree without the places of its nodes in the text."""
    if isinstance(tree, dict):
        return {key: _without_places(value) for key, value in tree.items() if not key.startswith("query_location")}
    return [_without_places(value) for value in tree] if isinstance(tree, list) else tree
