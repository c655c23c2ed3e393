"""`nightscribe plan`: what a run would do, and with --estimate what it will take."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.estimate.estimate import Estimate

OVERRIDES = "another value for a key of the job file, e.g. source.limit=1000 tasks.0.dtype=float32"


def register(commands: Any) -> None:
    """Add the command to the sub-parsers of `nightscribe`."""
    parser = commands.add_parser("plan", help="show what a run would do", description=plan_command.__doc__)
    parser.add_argument("spec", metavar="SPEC", help="job file (YAML)")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help=OVERRIDES)
    parser.add_argument("--json", action="store_true", help="print the whole plan as JSON")
    parser.add_argument("--why", action="store_true", help="give a reason for each shard that is to do")
    parser.add_argument("--only-rejected", action="store_true", help="plan a run that only tries rejected rows again")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="compute a sample of the rows on this machine, and say how many tokens, hours, bytes and requests the run "
        "will take, for 1, 4, 16 and 64 workers; kept in the cache folder of the user ($XDG_CACHE_HOME/nightscribe), "
        "where the report of the run finds it",
    )
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help="YAML file with worker_hour, request_1000, gb_month and currency, for the cost; by default the section "
        "prices of the job file",
    )
    parser.set_defaults(call=plan_command)


def plan_command(arguments: argparse.Namespace) -> None:
    """Show what a run would do: pinned revisions, finished shards. Writes nothing to the sink.

    No weights are loaded unless --estimate asks for a sample. With --why there is a line for each shard that is to do:
    its file, its range, and what changed since it was done.
    """
    from jobs import spec
    from jobs.spec import prices

    job = spec.read(arguments.spec, arguments.overrides)
    given = None if arguments.prices is None else prices.read(arguments.prices)
    # Imports take seconds; a mistake in the job file is reported before them.
    from jobs import runners
    from jobs.hub import session
    from jobs.plan import planning, remarks, why
    from jobs.plan.text import text

    if not job.runner.fans_out:
        # The servers of the others are needed for a run only.
        runners.check(job)
    planned, sink = planning.against_sink(job, arguments.only_rejected)
    asked = session.taken().requests
    reasons = why.of(planned, sink) if arguments.why else []
    found: Estimate | None = None
    if arguments.estimate:
        from jobs.estimate import planned as estimates

        found = estimates.of_plan(planned, sink, given)
    if arguments.json:
        more: dict[str, Any] = {"why": [each.to_json() for each in reasons]} if arguments.why else {}
        more |= {"estimate": found.to_json()} if found is not None else {}
        content = planned.to_json()
        print(json.dumps(json.loads(content) | more, indent=1) if more else content)
        return
    print(text(planned, asked, [*remarks.lacking(planned), *remarks.kept(planned, sink)]))
    if reasons:
        print(f"\n{why.table(reasons)}")
    if found is not None:
        from jobs.estimate.text import WITHOUT_FIRST
        from jobs.estimate.text import text as estimate_text

        print(f"\n{estimate_text(found)}")
        if any(task.first is not None and task.first.measured is None for task in planned.tasks):
            print(WITHOUT_FIRST)
