"""Beam's pipeline options, as `runner.options` has them: parsed, and checked by the classes that define them.

Beam itself drops an option that it does not know, with a warning, and ends the process at a wrong value.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

# The parser that `PipelineOptions` uses; its options can only be listed with one.
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    KafkaStreamsRunnerOptions,
    PipelineOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    WorkerOptions,
    _BeamArgumentParser,
)

from jobs.spec import RunnerSpec
from transforms.errors import SpecError

# Options that only one of Beam's own runners reads.
OF_ONE_RUNNER = {
    DirectOptions: "FnApiRunner",
    FlinkRunnerOptions: "FlinkRunner",
    KafkaStreamsRunnerOptions: "KafkaStreamsRunner",
    PrismRunnerOptions: "PrismRunner",
    SparkRunnerOptions: "SparkRunner",
    WorkerOptions: "DataflowRunner",
}
# Runners that read nothing of the other runners' options.
OWN_ONLY = ("DataflowRunner", "FlinkRunner", "PrismRunner", "SparkRunner", "FnApiRunner")
# Options that are keys of the section `runner` here.
KEYS = {"runner": "runner.name"}
# Option in which a cluster takes its number of workers, by runner.
WORKERS = {
    "DataflowRunner": "num_workers and max_num_workers",
    "FlinkRunner": "parallelism, and sdk_worker_parallelism for the processes of one machine",
    "SparkRunner": "sdk_worker_parallelism for the processes of one machine; the cluster has the number of executors",
    "PortableRunner": "sdk_worker_parallelism for the processes of one machine; the cluster has the number of machines",
}


class _Wrong(Exception):
    """What argparse says about an option."""


class _Parser(_BeamArgumentParser):
    """Raises what Beam's parser would end the process with."""

    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


def parse(spec: RunnerSpec) -> PipelineOptions:
    """The Beam options of a job, and what follows from its other keys."""
    options = dict(spec.options)
    if spec.name == "local" and isinstance(spec.workers, int) and spec.workers > 1:
        options = {"direct_num_workers": spec.workers} | options
    # As JSON, Beam would repeat each line of the server's log on the terminal.
    options = {"prism_log_kind": "text"} | options
    return PipelineOptions.from_dictionary(options)


def check(spec: RunnerSpec, runner: str, more: Collection[str] = ()) -> None:
    """Refuse options that nobody reads, and values that they cannot have.

    Args:
        spec: the section of the job file.
        runner: class of the runner.
        more: names of options that the job server knows besides those of Beam's own classes.

    Raises:
        SpecError: an unknown option, one of another runner, or a wrong value.
    """
    known = {name: group for group in PipelineOptions.__subclasses__() for name in _names(group)}
    for name, value in spec.options.items():
        if name in KEYS:
            raise SpecError(f"runner.options.{name} is a key of its own here; remove it, and set {KEYS[name]}")
        if name not in known and name not in more:
            raise SpecError(f"runner.options.{name} is not an option of Beam{_alike(name, [*known, *more])}")
        if name not in known:
            continue
        owner = OF_ONE_RUNNER.get(known[name], runner)
        if runner in OWN_ONLY and owner != runner:
            of = "local" if owner == "FnApiRunner" else owner
            raise SpecError(f"runner.options.{name} is an option of {of}, and runner.name is {spec.name!r}; remove it")
        try:
            _check_value(known[name], name, value)
        except _Wrong as wrong:
            said = str(wrong).partition(": ")[2]
            raise SpecError(f"runner.options.{name} is {value!r}: {said}; correct it") from wrong


def check_workers(spec: RunnerSpec, runner: str) -> None:
    """Refuse a number of processes for a runner that does not start any on this machine.

    Raises:
        SpecError: `workers` is given.
    """
    if spec.workers != "auto" and spec.name != "local":
        instead = f"remove it, and set runner.options: {WORKERS[runner]}" if runner in WORKERS else "remove it"
        raise SpecError(
            f"runner.workers is {spec.workers}, and only the runner 'local' starts processes on this machine; {instead}"
        )


def _check_value(group: type[PipelineOptions], name: str, value: Any) -> None:
    """Parse one option.

    Raises:
        _Wrong: it cannot have this value.
    """
    parser = _parser(group)
    # Beam leaves out what is false, also of an option that is no flag.
    given = True if value is False else value
    flags = PipelineOptions.from_dictionary({name: given})._flags
    parser.parse_known_args(flags)


def _names(group: type[PipelineOptions]) -> Iterator[str]:
    for action in _parser(group)._actions:
        yield from (each.removeprefix("--") for each in action.option_strings)


def _parser(group: type[PipelineOptions]) -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False, add_help=False)
    group._add_argparse_args(parser)
    return parser


def _alike(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lstrip("-").replace("-", "_").lower(), known, 3)
    return f"; did you mean {' or '.join(close)}?" if close else "; https://beam.apache.org lists them by runner"
