"""`nightscribe forget`: erase a person's rows from everything that is kept beside the enriched rows."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from transforms.errors import RunError, SpecError


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "forget",
        help="erase a person's rows from review, labels, rejected rows, reports and registries",
        description=inspect.cleandoc(forget_command.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--where", required=True, help="condition on the person's rows, as source.where; - reads it from stdin"
    )
    parser.add_argument(
        "--job", action="append", default=[], metavar="FILE", help="job file: its sink and its review folder"
    )
    parser.add_argument(
        "--training", action="append", default=[], metavar="FILE", help="training file: its labelled rows, its registry"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be erased")
    parser.add_argument(
        "--all-examples",
        action="store_true",
        help="erase all rows that reports show, also of other people: for rows that are gone from the sink already",
    )
    parser.set_defaults(call=forget_command)


def forget_command(arguments: argparse.Namespace) -> None:
    """Erase a person's rows from review folders, labelled rows, rejected rows, reports and registries.

    Rows that meet the condition are erased, and what has only their keys or texts: receipts, reports, exports. In a
    receipt a random word replaces the key, so that the decision can still be verified.

    Enriched rows follow the source: run this first, then delete the rows at the source; the next run drops them from
    the sink. If the order was another one, add --all-examples, since nobody can tell any more whose the texts in
    reports are. Weights that were trained on the rows stay; the output names them.

    The last line on stdout is JSON: rows, keys, places, left, not_written, dry_run. Exit code 1 if files that are not
    Parquet have rows of the person.
    """
    if not arguments.job and not arguments.training:
        raise SpecError("nothing to search: give --job FILE, --training FILE, or several of them")
    from jobs import spec
    from jobs.training import spec as training_spec

    parsed = [spec.read(file) for file in arguments.job]
    read = [training_spec.read(file) for file in arguments.training]
    trainings = [stage for file in read for stage in (*file.earlier, file)]
    condition = sys.stdin.read() if arguments.where == "-" else arguments.where
    # Imports take seconds; a mistake in a file is reported before them.
    from jobs.forget.erase import forget

    outcome = forget(condition, parsed, trainings, arguments.dry_run, arguments.all_examples)
    print(outcome.text())
    print(outcome.to_json())
    if outcome.not_written:
        files = ", ".join(f"{name} ({rows:,})" for name, rows in outcome.not_written.items())
        raise RunError(f"only Parquet files are written again; delete the rows of the person yourself in {files}")
