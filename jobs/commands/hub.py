"""`nightscribe hub check`: what the Hub at HF_ENDPOINT can do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

MARKS = {"yes": "yes", "no": "NO", "unknown": "?"}


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser("hub", help="say what the Hub at HF_ENDPOINT can do", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="ask the Hub at HF_ENDPOINT what it can do", description=check_command.__doc__
    )
    where = check.add_mutually_exclusive_group()
    where.add_argument("--dataset", metavar="ORG/NAME", help="a dataset to read from")
    where.add_argument("--model", metavar="ORG/NAME", help="a model to read from")
    check.add_argument(
        "--write",
        action="store_true",
        help="try commits too, in a private repository of the token's user that is deleted again",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object for each answer")
    check.set_defaults(call=check_command)


def check_command(arguments: argparse.Namespace) -> int:
    """Ask the Hub what it can do, and say what does not work without that.

    It asks whose token it is, whether parts of files are served, and with --write whether a commit with a wrong parent
    fails, as registries and sinks need it. It ends with 1 if no job can use this Hub.
    """
    # Imported here because the client of the Hub takes half a second to import.
    from jobs.hub.check import check

    missing = False
    kind = "model" if arguments.model else "dataset"
    for finding in check(arguments.dataset or arguments.model, kind, arguments.write):
        missing = missing or (finding.needed and finding.answer == "no")
        if arguments.json:
            print(json.dumps(asdict(finding)))
        else:
            print(f"{finding.what:<12}{MARKS[finding.answer]:<5}{finding.text}")
    return int(missing)
