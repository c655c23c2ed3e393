"""`nightscribe train` and `nightscribe evaluate`: one round of the training loop, or only its measurement."""

from __future__ import annotations

import argparse
import json
from typing import Any


def register(commands: Any) -> None:
    """Add the commands to the `nightscribe` parser."""
    train = commands.add_parser(
        "train", help="train an adapter, compare it with the champion, promote it", description=train_command.__doc__
    )
    evaluate = commands.add_parser(
        "evaluate", help="measure a version, or the base, on the holdout", description=evaluate_command.__doc__
    )
    for parser in (train, evaluate):
        parser.add_argument("spec", metavar="FILE", help="training file (YAML)")
        parser.add_argument(
            "overrides", metavar="key=value", nargs="*", default=[], help="e.g. training.learning_rate=1e-4"
        )
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    evaluate.add_argument(
        "--version", help="a version of the registry, champion, or base for the base model (default champion)"
    )
    train.set_defaults(call=train_command)
    evaluate.set_defaults(call=evaluate_command)


def train_command(arguments: argparse.Namespace) -> None:
    """Train a challenger, measure it and the champion on the holdout, apply the gate, and promote it if it is better.

    A killed training continues from its last checkpoint. The last line on stdout is the outcome as JSON.
    """
    from jobs.training import spec

    parsed = spec.read(arguments.spec, arguments.overrides)
    # Imports take seconds; a mistake in the file is reported before them.
    from jobs.execute import stop
    from jobs.retraining import round as rounds
    from jobs.training import shown

    with stop.on_signals() as stopped, shown.shown(parsed.name, arguments.quiet) as watch:
        outcome = rounds.run(parsed, watch, stopped)
    print(outcome.to_json())


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Measure a version on the holdout with the transforms of the nightly job; nothing is trained or moved.

    The last line on stdout is JSON: version, metrics, slices, rows.
    """
    from jobs.training import spec

    parsed = spec.read(arguments.spec, arguments.overrides)
    from jobs.registry import Registry
    from jobs.retraining import scores
    from jobs.training import data

    registry = Registry(parsed.registry)
    version = scores.version_of(registry, arguments.version)
    rows = data.load(parsed)
    scored = scores.score(parsed, version, registry, rows)
    found = {
        "version": "base" if version is None else version.version,
        "metrics": scored.metrics,
        "slices": scored.metrics_by_slice,
        "rows_holdout": len(rows.holdout),
        "rows_failed": scored.predictions.failed,
        "notes": list(scored.measured.notes),
    }
    print(json.dumps(found))
