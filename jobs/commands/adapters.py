"""`nightscribe adapters`: look at a registry, move its champion, copy, check, merge and export its versions."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands import diff
from jobs.models.export import ENGINES
from transforms.errors import SpecError

if TYPE_CHECKING:
    from jobs.registry import Registry

# Exit code of `verify` for a promotion by a person: neither right (0) nor wrong (1), so that a script can tell.
NOTHING_TO_VERIFY = 3


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "adapters",
        help="versions of trained adapters: list, show, diff, promote, rollback, push, pull, merge, export, verify",
        description="Versions of trained adapters in a registry, and the champion among them.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, call: Callable[[argparse.Namespace], int | None], help_: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=help_, description=call.__doc__)
        action.add_argument("registry", metavar="REGISTRY", help="folder or URL of the registry, such as hf://org/name")
        action.set_defaults(call=call)
        return action

    listed = add("list", list_, "the versions, the champion, and every move")
    shown = add("show", show, "how a version came about, and its metrics")
    diff.register(actions)
    promoted = add("promote", promote, "make a version the champion")
    back = add("rollback", rollback, "make the previous champion the champion again")
    pushed = add("push", push, "copy a version into another registry, such as one on the Hub")
    pulled = add("pull", pull, "copy a version from another registry, such as one on the Hub")
    merged = add("merge", merge, "write a version and its base as one model folder")
    exported = add("export", export, "write a version as vLLM, TGI, llama.cpp or peft expects an adapter")
    verified = add("verify", verify, "derive the decision about the champion again from its receipt")

    for action in (listed, shown):
        action.add_argument("--json", action="store_true", help="as JSON")
    shown.add_argument("version", metavar="VERSION", nargs="?", default="champion", help="default: the champion")
    promoted.add_argument("version", metavar="VERSION", help="its name, or the first digits of it")
    promoted.add_argument(
        "--expected", metavar="VERSION", help="refuse if the champion is another one by now; none for no champion"
    )
    sink = back.add_mutually_exclusive_group()
    sink.add_argument("--sink", help="a sink: name its runs that used the version that is taken back")
    sink.add_argument("--job", help="the same for the sink of a job file")
    for action in (pushed, pulled):
        action.add_argument("version", metavar="VERSION", nargs="?", default="champion", help="default: the champion")
        action.add_argument("--promote", action="store_true", help="also make it the champion where it goes")
    pushed.add_argument("--to", required=True, metavar="REGISTRY", help="where it goes; need not exist yet")
    pulled.add_argument("--from", required=True, metavar="REGISTRY", dest="source", help="where it comes from")
    for action in (promoted, back, pushed, pulled):
        action.add_argument("--by", help="who approves it (default: your user name)")
    for action in (promoted, back):
        action.add_argument("--reason", required=True, help="why; kept in the history")
    merged.add_argument("version", metavar="VERSION", help="its name, the first digits of it, or champion")
    merged.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; must not exist or be empty")
    merged.add_argument("--base", help="where the base is now, if it was moved after the training")
    exported.add_argument("version", metavar="VERSION", help="its name, the first digits of it, or champion")
    exported.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; must not exist or be empty")
    exported.add_argument("--for", required=True, choices=ENGINES, dest="engine", help="what will read the folder")
    exported.add_argument("--base", help="name or folder of the base for adapter_config.json, if it was moved")
    verified.add_argument("version", metavar="VERSION", nargs="?", default="champion", help="default: the champion")


def list_(arguments: argparse.Namespace) -> None:
    """List the versions, the champion, and every move of the champion."""
    registry = _open(arguments)
    versions, history, champion = registry.versions(), registry.history(), registry.champion()
    if arguments.json:
        moves = [json.loads(move.to_json()) for move in history]
        found = {
            "champion": None if champion is None else champion.version,
            "versions": [json.loads(version.to_json()) for version in versions],
            "history": moves,
        }
        print(json.dumps(found))
        return
    rows = [
        (
            "champion" if champion is not None and version.version == champion.version else "",
            version.version,
            version.created,
            version.task,
            version.method,
            f"{version.rows_train:,}",
            _metrics(version.metrics),
        )
        for version in versions
    ]
    print(_table([("", "version", "created", "task", "method", "rows", "on the holdout"), *rows]))
    if history:
        moved = [
            (move.at, move.action, move.before or "none", move.version, move.by, move.reason.replace("\n", " "))
            for move in history
        ]
        print(f"\n{_table([('moved', 'action', 'from', 'to', 'by', 'reason'), *moved])}")


def show(arguments: argparse.Namespace) -> None:
    """Show how a version came about, its metrics and its slices."""
    from jobs.registry.card import card

    version = _open(arguments).named(arguments.version)
    print(version.to_json().decode() if arguments.json else card(version))


def promote(arguments: argparse.Namespace) -> None:
    """Make a version the champion, without a gate: the next run of a job that names it uses it."""
    from jobs.registry import ANY

    registry = _open(arguments)
    expected: str | None = ANY
    if arguments.expected is not None:
        expected = None if arguments.expected == "none" else registry.version(arguments.expected).version
    move = registry.promote(arguments.version, who(arguments), arguments.reason, expected)
    print(f"champion: {move.version}, before: {move.before or 'none'}")


def rollback(arguments: argparse.Namespace) -> None:
    """Make the previous champion the champion again: the next run of a job that names it uses it."""
    from jobs import spec

    registry, sink = _open(arguments), arguments.sink
    if arguments.job is not None:
        sink = spec.read(arguments.job).sink.path
    if sink is not None:
        # A mistyped sink is found before the champion moves.
        from jobs.registry import used

        store = used.open_sink(sink, "--job" if arguments.job is not None else "--sink")
    move = registry.rollback(who(arguments), arguments.reason)
    assert move.before is not None
    print(f"champion: {move.version}, taken back: {move.before}")
    if sink is not None:
        uses = used.runs_with(store, registry.version(move.before))
        if not uses:
            print(f"no run of {sink} used {move.before}")
            return
        print(f"runs of {sink} that used {move.before}, and their rows that are still there:")
        print(_table([("run", "rows"), *((use.run_id, f"{use.rows:,}") for use in uses)]))


def push(arguments: argparse.Namespace) -> None:
    """Copy a version into another registry, under the same name. Again, it finishes or does nothing."""
    from jobs.registry import Registry

    _copy(arguments, _open(arguments), Registry(arguments.to, "--to"))


def pull(arguments: argparse.Namespace) -> None:
    """Copy a version from another registry, under the same name. Again, it finishes or does nothing."""
    from jobs.registry import Registry

    _copy(arguments, Registry(arguments.source, "--from"), Registry(arguments.registry, "REGISTRY"))


def _copy(arguments: argparse.Namespace, source: Registry, target: Registry) -> None:
    """Copy a version, and make it the champion of the target if that was asked for."""
    from jobs.registry.copy import copy

    by = who(arguments) if arguments.promote else ""
    copied = copy(source, arguments.version, target)
    version, files = copied.version.version, len(copied.version.files)
    print(f"{version}: copied to {target.url}, {files} files" if copied.is_new else f"{version}: is in {target.url}")
    if not arguments.promote:
        return
    champion = target.champion()
    if champion is not None and champion.version == version:
        print(f"champion: {version}, as before")
        return
    expected = None if champion is None else champion.version
    move = target.promote(version, by, f"copied from {source.url}", expected)
    print(f"champion: {move.version}, before: {move.before or 'none'}")


def merge(arguments: argparse.Namespace) -> None:
    """Write a version and its base as one model folder, which any library that loads models can read."""
    from jobs.models.merge import merge as merge_version

    registry = _open(arguments)
    merge_version(registry, registry.named(arguments.version), arguments.folder, arguments.base)
    print(arguments.folder)


def export(arguments: argparse.Namespace) -> None:
    """Write a version as vLLM, TGI, llama.cpp's converter or peft expects the folder of an adapter."""
    from jobs.models.export import export as export_version

    registry = _open(arguments)
    version = registry.named(arguments.version)
    rank = export_version(registry, version, arguments.folder, arguments.engine, arguments.base)
    print(arguments.folder)
    if arguments.engine == "vllm":
        print(f"start vLLM with --enable-lora --max-lora-rank of at least {rank}", file=sys.stderr)


def verify(arguments: argparse.Namespace) -> int:
    """Derive the decision to promote a version again from its receipt.

    Exit code 0: the receipt gives the decision. 1: it does not. 3: a person promoted the version without the gate, so
    that there is no receipt and nothing to verify.
    """
    from jobs.gate import decision

    registry = _open(arguments)
    version = registry.named(arguments.version).version
    moves = [move for move in registry.history() if move.version == version and move.action == "promote"]
    if not moves:
        raise SpecError(f"version {version} of {registry.url!r} was never promoted, so there is no decision to verify")
    last = moves[-1]
    if last.receipt is None:
        print(f"{version}: promoted by {last.by} without a receipt ({last.reason}), so there is nothing to verify")
        return NOTHING_TO_VERIFY
    wrong = decision.verify(last.receipt)
    if not wrong:
        wrong = _misused(last.receipt, version)
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print(f"{version}: the evidence gives the same decision, promoted")
    return int(bool(wrong))


def _misused(receipt: Mapping[str, Any], version: str) -> list[str]:
    """What a consistent receipt does not show about this promotion."""
    wrong = []
    if (about := receipt["evaluated"]["version"]) != version:
        wrong.append(f"the receipt is about version {about}, and {version} was promoted with it")
    if (decided := receipt["decision"]) != "promoted":
        wrong.append(f"the decision was {decided}, and {version} was promoted nevertheless")
    return wrong


def _open(arguments: argparse.Namespace) -> Registry:
    """The registry of a command.

    Raises:
        SpecError: there is none.
    """
    from jobs.registry import Registry

    registry = Registry(arguments.registry, "REGISTRY")
    registry.require()
    return registry


def who(arguments: argparse.Namespace) -> str:
    """The person who approves: `--by`, or the user of this process."""
    if arguments.by is not None:
        return str(arguments.by)
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        # A container may run as a user id without a name.
        raise SpecError("your user name is unknown here; say with --by who approves it") from error


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
