"""`nightscribe labels`: labels that people gave in a label tool become rows for training."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.review.accuracy import NightAccuracy
    from jobs.review.labels import Imported, Labelled


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser."""
    parser = commands.add_parser(
        "labels", help="import labels of drawn rows from a label tool", description=labels_command.__doc__
    )
    parser.add_argument(
        "review", metavar="REVIEW", help="folder or URL of the drawn rows, as review.path in the job file"
    )
    parser.add_argument(
        "exports",
        metavar="EXPORT",
        nargs="+",
        help="export of Label Studio (JSON, JSON-MIN, CSV) or Argilla (records), or Parquet, JSON lines or CSV with "
        "review_key and label, entities, target or completion",
    )
    parser.add_argument(
        "--new-label",
        metavar="LABEL",
        action="append",
        default=[],
        help="a label that the model does not know and that is meant, although it looks like a misspelt one; may be "
        "given several times",
    )
    parser.set_defaults(call=labels_command)


def labels_command(arguments: argparse.Namespace) -> None:
    """Import labels of drawn rows, and estimate how good each of their nights was.

    The labelled rows are written to REVIEW/labels/JOB/RUN.parquet, for data.train of a training file. More labels, and
    corrected ones, may be imported later. The last line on stdout is JSON.
    """
    from jobs.review import accuracy, labels
    from jobs.store import Store
    from transforms.errors import SpecError

    imported = labels.take(arguments.review, arguments.exports, arguments.new_label)
    store = Store(arguments.review, "REVIEW")
    found = []
    for run in imported.runs:
        print(in_words(run))
        measured: NightAccuracy | None = None
        try:
            measured = accuracy.estimate(store, run.job, run.run)
            print(f"  {measured.measure}: {measured.night.sentence()}")
        except SpecError as error:
            # The labels are imported all the same.
            print(f"  how good the night was is not known: {error}")
        found.append(asdict(run) | {"accuracy": None if measured is None else measured.night.to_json()})
    _remark(imported)
    print(json.dumps({"runs": found, "answers": imported.answers, "never_drawn": imported.strangers}))


def in_words(run: Labelled) -> str:
    """The labels of a run in a sentence."""
    text = f"{run.job} {run.run}: {run.drawn:,} rows drawn, {run.labelled:,} labelled, {run.skipped:,} skipped"
    if run.tied:
        text += f" ({run.tied:,} because people disagree)"
    if run.unknown:
        named = ", ".join(f"{label!r} ({rows:,})" for label, rows in run.unknown.items())
        text += f"; labels that the model does not know: {named}"
    return text


def _remark(imported: Imported) -> None:
    if imported.strangers:
        print(
            f"nightscribe: {imported.strangers:,} of {imported.answers:,} answers are left out: their rows were never "
            f"drawn, or were erased (first: {imported.stranger})",
            file=sys.stderr,
        )
