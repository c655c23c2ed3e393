"""Make a lake of reviews, train two small models, enrich the lake with the Prefect flow, then close the training loop.

The loop, on the reviews of a new shop: a first adapter, a night, labels for it, a better adapter that is promoted, the
next night, and the promotion taken back.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from transforms.errors import SpecError

FOLDER = Path("nightscribe-demo")
ROWS = 6000


def register(commands: Any) -> None:
    """Add the command to the `nightscribe` parser; Prefect is imported only when it is called."""
    parser = commands.add_parser("demo", help="make a lake, enrich it, show the result", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"folder for everything it makes (default {FOLDER})"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help=f"number of reviews to make (default {ROWS})")
    parser.add_argument("--no-loop", dest="loop", action="store_false", help="leave out the training loop")
    parser.set_defaults(call=demo)


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo. A second run does only what is missing."""
    from flows.demo.lake import MIN_ROWS, write_lake

    # Before torch and Prefect are imported, which takes seconds.
    if arguments.rows < MIN_ROWS:
        raise SpecError(f"--rows is {arguments.rows}; a lake with every kind of text needs at least {MIN_ROWS}")
    import pyarrow.dataset as pads
    import pyarrow.parquet as pq

    from flows.demo.models import train_models, training_rows
    from flows.demo.score import doubts, score

    # Prefect's server, which runs in this process, sends usage data unless these are set.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    show_plain_log_lines()
    folder: Path = arguments.folder
    lake = folder / f"lake-{arguments.rows}"
    if not (lake / "gold").exists():
        say(f"making a lake of {arguments.rows:,} reviews in {lake}")
        write_lake(lake, arguments.rows)
    models = train_models(lake, folder / "models", progress=say)
    job = write_job(
        folder, lake, *(point_to(folder / "models" / path.name, path) for path in (models.classify, models.ner))
    )

    say("enriching the lake with the Prefect flow `enrich`")
    from flows import server
    from flows.demo.outcome import outcome
    from flows.enrich import enrich

    server.start_temporary()
    report = outcome(enrich, job)
    enriched = pads.dataset(report["output"], format="parquet", ignore_prefixes=["_"]).to_table()
    gold = pq.read_table(lake / "gold" / "reviews.parquet")
    scores = score(enriched, gold)
    commands = command_folder()
    print(f"""
rows       {report["rows_in"]:,} new ones enriched, {report["rows_rejected"]:,} rejected
shards     {report["shards"]}, of which {report["shards_skipped"]} were done before
scored on  {scores.rows:,} rows that were not used for training
sentiment  accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}
entities   precision {scores.entity_precision:.3f}, recall {scores.entity_recall:.3f}, F1 {scores.entity_f1:.3f}
{remark(doubts(scores, gold), training_rows(lake).num_rows, arguments.rows)}
look       {commands}/python -c "import pyarrow.dataset as d; print(d.dataset('{report["output"]}').head(5))"
again      {commands}/nightscribe run {job}     (enriches only new rows)
the UI     {the_ui()}
""")
    if arguments.loop:
        close_the_loop(folder / "shop", folder / "models" / models.classify.name, commands)
    print(json.dumps(report))
    return 0


def remark(doubts: Sequence[str], labels: int, rows: int) -> str:
    """A line about scores that say nothing, and what would help; empty if they do say something.

    Args:
        doubts: why, for each of the scores.
        labels: reviews that the models were trained on.
        rows: reviews in the lake.
    """
    if not doubts:
        return ""
    more = f"; --rows {ROWS}, the default, gives them more" if rows < ROWS else ""
    return f"note       {labels:,} labelled reviews are too few to learn from: {', and '.join(doubts)}{more}\n"


def close_the_loop(folder: Path, base: Path, commands: Path) -> None:
    """Go once around the training loop, and show what came of it.

    Args:
        folder: for everything that it makes.
        base: the model that the adapters are trained over.
        commands: folder of the commands that are printed.
    """
    from flows.demo import circle

    found = circle.close(folder, base, say)
    if found is None:
        print(f"loop       closed before; delete {folder} to see it again\n")
        return
    print(f"""
night 1    {found.before:.1%} of the labels are right, with adapter {found.first["version"]}
labels     {found.drawn} of the {found.rows} rows were drawn and corrected
retrained  {found.second["version"]} is {found.second["decision"]}: {found.second["reason"]}
night 2    {found.after:.1%} of the labels are right, with adapter {found.second["version"]}
undone     after a rollback, the files of night 1 have {"the same" if found.same_bytes else "OTHER"} bytes again

versions   {commands}/nightscribe adapters list {folder}/registry
labels     {folder}/review/draws has the drawn rows, also for Label Studio and Argilla
again      {commands}/nightscribe train {folder}/training.yaml     (trains only if there are new labels)
""")


def command_folder() -> Path:
    """Where the commands are, for lines to copy: they work although the virtual environment may not be active."""
    folder = Path(sys.executable).parent
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def the_ui() -> str:
    """Where the runs are to be seen; the command is with its whole path, for a terminal in any folder."""
    from flows import server

    if url := server.configured():
        return f"{url.removesuffix('/api')}     (shows this run and its report)"
    start = f"{Path(sys.executable).parent}/prefect server start"
    return f"{start}, then http://127.0.0.1:{server.PORT}     (shows this run and its report)"


def write_job(folder: Path, lake: Path, classify: Path, ner: Path) -> Path:
    """Write the demo's job file, for the user to read, change and run; returns its path."""
    suffix = lake.name.removeprefix("lake")
    job = {
        "name": "demo",
        "source": {"path": f"{lake}/reviews/**/*.parquet"},
        "tasks": [
            {"task": "classify", "column": "text", "model": str(classify), "into": "sentiment"},
            {"task": "ner", "column": "text", "model": str(ner), "into": "entities", "aggregation": "first"},
        ],
        # A sink belongs to one source, so that of a lake of another size is another folder.
        "sink": {"path": str(folder / ("enriched" if lake.name == f"lake-{ROWS}" else f"enriched{suffix}"))},
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(job, sort_keys=False))
    return file


def point_to(link: Path, target: Path) -> Path:
    """Link to a model folder, so that its path in the job file stays the same when the models are trained again."""
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(link.parent))
    return link


def show_plain_log_lines() -> None:
    """Show log lines of Prefect on the terminal without their level and the name of their logger.

    Its lines about the end of each task and flow are left out: the lines of the demo, or its error, say it.
    """
    from flows.events import ENDS_RUN

    def is_shown(record: logging.LogRecord) -> bool:
        return not (hasattr(record, ENDS_RUN) or record.getMessage().startswith("Finished in state"))

    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.addFilter(is_shown)


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
