"""The `nightscribe` command: parse, call, exit code (0 done, 1 failed, 2 wrong job file or usage)."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from jobs.commands import adapters, forget, hub, labels, plan, publish, trace, train
from transforms import garbage
from transforms.errors import NightscribeError, SpecError, Unexpected, UserError

DESCRIPTION = "Bulk enrichment of text in data lakes: one YAML file is one job."
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed or stopped, also because a network, a store or the Hub did not answer (run it again "
    "to continue); 2 wrong job file or usage (nothing was written)."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 done, 1 failed or stopped (run again to continue), 2 wrong job file or usage (nothing was written).
    """
    garbage.seldom()
    _quieten()
    # The job file may name functions in modules of the current folder, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    arguments = _parsed(argv)
    try:
        return int(arguments.call(arguments) or 0)
    except BrokenPipeError:
        # The reader of the output, such as `head`, closed the pipe; without this Python prints another error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("NIGHTSCRIBE_DEBUG"):
            raise
        told = error if isinstance(error, NightscribeError) else Unexpected.from_(error, f"`{arguments.command}`")
        print(f"nightscribe: {told}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("nightscribe: stopped; finished shards are kept, run again to continue", file=sys.stderr)
        return 1


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line; `key=value` may be before or after options, which argparse alone does not take."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nightscribe", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=importlib.metadata.version("nightscribe"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run a job file; a later run does only what is new", description=run_command.__doc__
    )
    run.add_argument("spec", metavar="SPEC", help="job file (YAML)")
    run.add_argument("overrides", metavar="key=value", nargs="*", default=[], help=plan.OVERRIDES)
    run.add_argument(
        "--only-rejected",
        action="store_true",
        help="only try rows again that a task has rejected, up to errors.max_attempts times; do nothing else",
    )
    run.add_argument("--quiet", action="store_true", help="show no progress and no remarks")
    run.set_defaults(call=run_command)
    plan.register(commands)

    report = commands.add_parser(
        "report", help="write a run's report as one HTML file", description=report_command.__doc__
    )
    report.add_argument("run", metavar="RUN", help="id of a run, or latest")
    where = report.add_mutually_exclusive_group(required=True)
    where.add_argument("--sink", help="folder or URL that the run wrote to")
    where.add_argument("--job", help="job file of the run, whose sink.path is read")
    report.add_argument("--out", type=Path, help="file to write; by default RUN.html in the current folder")
    report.set_defaults(call=report_command)

    tasks = commands.add_parser(
        "tasks",
        help="list the tasks, with their options and the column each one adds",
        description=tasks_command.__doc__,
    )
    tasks.add_argument("task", nargs="?", help="explain each key of this task; may be the name of a module of your own")
    tasks.set_defaults(call=tasks_command)

    train.register(commands)
    labels.register(commands)
    adapters.register(commands)
    forget.register(commands)
    publish.register(commands)
    trace.register(commands)
    hub.register(commands)
    # Commands that need Prefect register themselves, so that jobs/ never imports flows/.
    for entry in importlib.metadata.entry_points(group="nightscribe.commands"):
        entry.load()(commands)
    return parser


def run_command(arguments: argparse.Namespace) -> None:
    """Run a job file. Finished shards are skipped, so a killed run continues where it stopped.

    With --only-rejected it tries the rows again that a task has rejected, and does nothing else: new files wait.
    Progress, rejected rows, or that nothing was new, go to stderr; the last line on stdout is the report as JSON.
    """
    from jobs import spec

    job = spec.read(arguments.spec, arguments.overrides)
    # Imports take seconds; a mistake in the job file is reported before them.
    with garbage.importing("jobs.run"):
        from jobs import run
        from jobs.execute import bar, stop
        from jobs.plan import remarks
        from jobs.report import shown, truncated

    again = arguments.only_rejected

    def say(sentence: str) -> None:
        if not arguments.quiet:
            print(sentence, file=sys.stderr, flush=True)

    with stop.on_signals() as stopped, bar.shown(arguments.quiet) as update:
        report = run.run(job, watch=update, stop=stopped, only_rejected=again, say=say)
    remark = None
    if again and not report.rows_in:
        remark = shown.nothing_rejected(report.rows_given_up, job.errors.max_attempts)
    elif report.rows_given_up:
        remark = shown.left_alone(report.rows_given_up, job.errors.max_attempts)
    elif not report.rows_in:
        remark = shown.nothing_new(report.shards_done, report.shards, report.rows_removed)
    elif report.rows_rejected:
        remark = shown.some_rejected(report.rows_rejected, report.rows_in, report.output)
    if remark is not None:
        say(remark)
    if report.rows_vanished and job.sink.on_vanished == "keep":
        say(remarks.stay(report.rows_vanished))
    for into, sentence in truncated.sentences([task.frozen() for task in job.tasks], report.as_dict()["truncated"]):
        say(f"{into}: {sentence}.")
    print(report.to_json())


def report_command(arguments: argparse.Namespace) -> None:
    """Write the report of a run, with its pictures and a comparison with the runs before, as one HTML file."""
    from jobs import spec
    from jobs.report import history
    from jobs.store import Store

    store = Store(arguments.sink or spec.read(arguments.job).sink.path)
    kept = history.read(store, arguments.run)
    # A mistake in the job file or the id is reported before the library for the pictures is imported.
    from jobs.report import accuracy
    from jobs.report.web import web

    file = arguments.out or Path(f"{kept.run_id}.html")
    try:
        measured = accuracy.earlier(kept.numbers)
        file.write_text(web(kept, history.before(store, kept.run_id), file.parent, measured), encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--out {str(file)!r} cannot be written: {error.strerror}") from error
    print(file)


def tasks_command(arguments: argparse.Namespace) -> None:
    """Show the options of each task and the column that it adds."""
    from jobs.spec import tasks

    print(tasks.page(arguments.task) if arguments.task else tasks.overview())


def _quieten() -> None:
    """Keep internal warnings of libraries out of the terminal, where they would break the progress bar."""
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    for name in ("apache_beam", "root"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # A person should know why nothing moves while the Hub takes no more requests, and which workers are lost or unfit.
    for name in ("jobs.hub", "jobs.parts", "jobs.runners"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


if __name__ == "__main__":
    sys.exit(main())
