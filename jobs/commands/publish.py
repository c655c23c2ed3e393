"""`nightscribe publish`: publish a night that the audit of its job held back."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from jobs.commands.adapters import who
from transforms.errors import SpecError


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "publish",
        help="publish a night that sink.audit held back",
        description=inspect.cleandoc(publish_command.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="JOB", help="job file (YAML)")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="another value for a key of the job file"
    )
    parser.add_argument("--run", metavar="RUN", help="id of the run that must be the one that is held back")
    parser.add_argument("--by", help="who approves it (default: your user name)")
    parser.add_argument("--reason", required=True, help="why; kept with the audit and in the report")
    parser.set_defaults(call=publish_command)


def publish_command(arguments: argparse.Namespace) -> None:
    """Publish the rows of the night that the audit of a job (sink.audit) held back, exactly as they were audited.

    Nothing is computed. Files that are new since then are for the next run. The last line on stdout is the report as
    JSON.
    """
    from jobs import spec

    if not arguments.reason.strip():
        raise SpecError("--reason is empty; write why the night is published")
    job = spec.read(arguments.spec, arguments.overrides)
    # Imports take seconds; a mistake in the job file is reported before them.
    from jobs.audit import approve

    report = approve.publish(job, who(arguments), arguments.reason, arguments.run)
    print(report.to_json())
