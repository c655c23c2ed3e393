"""`nightscribe trace`: where rows of a sink come from."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from transforms.errors import SpecError


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "trace",
        help="say for rows of a sink which file, run, models and options made them",
        description=inspect.cleandoc(trace_command.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sink", metavar="SINK", nargs="?", help="folder, URL, delta://... or iceberg://... of the sink")
    parser.add_argument("--job", metavar="FILE", help="job file, whose sink is searched")
    parser.add_argument(
        "--where", required=True, help='condition on the rows, as source.where: "id = 17"; - reads it from stdin'
    )
    parser.add_argument("--limit", type=int, default=20, help="maximum number of rows (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.set_defaults(call=trace_command)


def trace_command(arguments: argparse.Namespace) -> None:
    """Say for each row that meets a condition where it comes from.

    That is its source file and version, its run and time, and for each column that a task added the model and the
    adapter with their commits, the dtype, the engine and the options. For a rejected row it is the reason too.

    The condition may name the columns of the rows, of partition folders, and of rejected rows (_task, _error_type,
    _message). No model is loaded. Rows that are not published yet are not searched.
    """
    if (arguments.sink is None) == (arguments.job is None):
        raise SpecError("give either SINK, the place that a job wrote to, or --job FILE")
    if arguments.limit < 1:
        raise SpecError(f"--limit is {arguments.limit}; give 1 or more")
    from jobs import spec

    parsed = None if arguments.job is None else spec.read(arguments.job).sink
    # Imports take seconds; a mistake in the job file is reported before them.
    from jobs.sink import open_sink
    from jobs.trace import place, trace
    from jobs.trace.text import text

    sink = open_sink(parsed) if parsed is not None else place.opened(arguments.sink)
    condition = sys.stdin.read() if arguments.where == "-" else arguments.where
    traced = trace(sink, condition, arguments.limit)
    if not arguments.json:
        print(text(traced))
        return
    for origin in traced.rows:
        print(origin.to_json())
    if traced.more:
        print(f"{traced.more:,} more rows match; --limit shows more", file=sys.stderr)
