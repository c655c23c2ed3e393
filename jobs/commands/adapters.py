"""`nightscribe adapters`: look at a registry, move its champion, check a decision."""

from __future__ import annotations

import argparse
import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transforms.errors import SpecError


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "adapters",
        help="versions of trained adapters: list, show, promote, rollback, verify",
        description="Versions of trained adapters in a registry, and the champion among them.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, call: Callable[[argparse.Namespace], int | None], help_: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=help_, description=call.__doc__)
        action.add_argument("registry", metavar="REGISTRY", help="folder or URL of the registry")
        action.set_defaults(call=call)
        return action

    listed = add("list", list_, "the versions, the champion, and every move")
    listed.add_argument("--json", action="store_true", help="as JSON")
    shown = add("show", show, "how a version came about, and its metrics")
    shown.add_argument("version", metavar="VERSION", nargs="?", default="champion", help="default: the champion")
    shown.add_argument("--json", action="store_true", help="as JSON")
    promoted = add("promote", promote, "make a version the champion")
    promoted.add_argument("version", metavar="VERSION")
    back = add("rollback", rollback, "make the previous champion the champion again")
    back.add_argument("--sink", help="a sink: name its runs that used the version that is taken back")
    for action in (promoted, back):
        action.add_argument("--by", default=getpass.getuser(), help="who approves it (default: your user name)")
        action.add_argument("--reason", required=True, help="why; kept in the history")
    add("verify", verify, "derive the decision about the champion again from its receipt")


def list_(arguments: argparse.Namespace) -> None:
    """List the versions, the champion, and every move of the champion."""
    from jobs.registry import Registry

    registry = Registry(arguments.registry)
    versions, history, champion = registry.versions(), registry.history(), registry.champion()
    if arguments.json:
        moves = [json.loads(move.to_json()) for move in history]
        print(json.dumps({"versions": [json.loads(version.to_json()) for version in versions], "history": moves}))
        return
    if not versions:
        print(f"{registry.url} has no versions")
        return
    rows = [
        (
            "champion" if champion is not None and version.version == champion.version else "",
            version.version,
            version.created,
            version.method,
            f"{version.rows_train:,} rows",
            _metrics(version.metrics),
        )
        for version in versions
    ]
    print(_table(rows))
    if history:
        print("\nmoves of the champion")
        moved = [(move.at, move.action, f"{move.before or 'none'} -> {move.version}", move.by) for move in history]
        print(_table([(*row, move.reason) for row, move in zip(moved, history, strict=True)]))


def show(arguments: argparse.Namespace) -> None:
    """Show how a version came about, its metrics and its slices."""
    from jobs.registry import resolve
    from jobs.registry.card import card

    found = resolve(f"{arguments.registry}@{arguments.version}", "REGISTRY")
    if found is None:
        raise SpecError(f"{arguments.registry!r} is not a registry; give its folder or URL")
    print(found[1].to_json().decode() if arguments.json else card(found[1]))


def promote(arguments: argparse.Namespace) -> None:
    """Make a version the champion, without a gate: the next run of a job that names it uses it."""
    from jobs.registry import Registry

    move = Registry(arguments.registry).promote(arguments.version, arguments.by, arguments.reason)
    print(f"champion: {move.version}, before: {move.before or 'none'}")


def rollback(arguments: argparse.Namespace) -> None:
    """Make the previous champion the champion again: the next run of a job that names it uses it."""
    from jobs.registry import Registry
    from jobs.registry.used import runs_with

    registry = Registry(arguments.registry)
    move = registry.rollback(arguments.by, arguments.reason)
    print(f"champion: {move.version}, taken back: {move.before}")
    if arguments.sink is not None and move.before is not None:
        runs = runs_with(arguments.sink, registry.version(move.before))
        print(f"runs of {arguments.sink} that used {move.before}: {', '.join(runs) or 'none'}")


def verify(arguments: argparse.Namespace) -> int:
    """Derive the decision about the champion again from its receipt; 1 if it differs."""
    from jobs.gate import decision
    from jobs.registry import Registry

    champion = Registry(arguments.registry).champion()
    if champion is None:
        raise SpecError(f"registry {arguments.registry!r} has no champion")
    if champion.receipt is None:
        print(f"{champion.version} has no receipt: {champion.action} by {champion.by}, {champion.reason}")
        return 0
    wrong = decision.verify(champion.receipt)
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print(f"{champion.version}: the evidence gives the same decision, {champion.receipt['decision']}")
    return int(bool(wrong))


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
