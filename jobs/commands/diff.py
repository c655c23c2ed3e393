"""`nightscribe adapters diff`: what another version would change in the rows of a job."""

from __future__ import annotations

import argparse
import json
from typing import Any

from transforms.errors import SpecError


def register(actions: Any) -> None:
    """Add the action to the parser of `nightscribe adapters`."""
    parser = actions.add_parser(
        "diff", help="what another version would change in the rows of a job", description=diff.__doc__
    )
    parser.add_argument(
        "registry", metavar="REGISTRY", nargs="?", help="folder or URL of the registry (default: the one in the job)"
    )
    parser.add_argument("champion", metavar="CHAMPION", help="a version, champion, or base for the model without it")
    parser.add_argument("challenger", metavar="CHALLENGER", help="likewise")
    parser.add_argument("--job", required=True, metavar="FILE", help="job file whose rows are compared")
    parser.add_argument("--rows", type=int, default=2000, help="rows to compare (default 2000)")
    parser.add_argument("--column", help="column of the task, if several have an adapter of a registry")
    parser.add_argument("--examples", type=int, default=20, help="changed rows to show (default 20)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(call=diff)


def diff(arguments: argparse.Namespace) -> None:
    """Compute the task of a job with two versions, on rows from all over its source, and show what changes.

    Nothing is written. The rows are those that the job would read, with its columns, `where` and `prepare`.
    """
    from jobs import spec

    for name, value in (("rows", arguments.rows), ("examples", arguments.examples)):
        if value < 1:
            raise SpecError(f"--{name} is {value}; give 1 or more")
    parsed = spec.read(arguments.job)
    # Imports take seconds; a mistake in the job file is reported before them.
    from jobs.evaluation import job

    task = job.served(parsed, arguments.registry, arguments.column)
    versions = (arguments.champion, arguments.challenger)
    found = job.changes(parsed, task, versions, arguments.rows, arguments.examples)
    print(json.dumps(found.to_json()) if arguments.json else found.text())
