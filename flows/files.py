"""The files of a folder that become deployments: job files, which enrich, and training files, which retrain."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from prefect import Flow

from flows import automations
from flows.enrich import enrich
from flows.folder import files
from flows.retrain import retrain
from jobs import spec
from jobs.spec import JobSpec
from jobs.spec.content import load
from jobs.spec.source import SourceSpec
from jobs.training import spec as training
from jobs.training.spec import TrainingSpec
from transforms.errors import SpecError

# Keys that only one of the two kinds has.
JOB_KEYS = tuple(key for key in JobSpec.model_fields if key not in TrainingSpec.model_fields)
TRAINING_KEYS = tuple(key for key in TrainingSpec.model_fields if key not in JobSpec.model_fields)


@dataclass(frozen=True)
class Job:
    """A job file.

    Attributes:
        file: its path from the worker's working directory.
        spec: its content.
    """

    file: Path
    spec: JobSpec

    flow_name: ClassVar[str] = enrich.name
    # A module, not a file: for a file, the worker puts its folder first on the path and does not find `flows`.
    entrypoint: ClassVar[str] = "flows.enrich.enrich"
    # The parameter of the flow that names the file.
    parameter: ClassVar[str] = "job"
    noun: ClassVar[str] = "job file"

    @staticmethod
    def shown_as(name: str) -> str:
        """What a deploy calls the deployment with this name."""
        return name

    @property
    def flow(self) -> Flow[Any, Any]:
        """The flow; no attribute of the class, because Prefect takes a flow in a class for a method and binds it."""
        return enrich

    @property
    def description(self) -> str:
        """The job's tasks, schedule, source and sink as Markdown."""
        lines = [
            _starts(self.spec),
            f"- reads: `{_paths(self.spec.source)}`",
            *(f"- {task.task} into `{task.into}`: {task.model or 'no model'}" for task in self.spec.tasks),
            f"- writes: `{self.spec.sink.shown}`",
        ]
        return _about(self.spec, lines)

    @property
    def tags(self) -> list[str]:
        """The tags of the deployment and its runs."""
        return sorted({automations.TAG, *(task.task for task in self.spec.tasks), *self.spec.tags})

    @property
    def version(self) -> str:
        """Package version and a hash of the deployment's content; a new version is deployed again."""
        return _version(self)


@dataclass(frozen=True)
class Training:
    """A training file.

    Attributes:
        file: its path from the worker's working directory.
        spec: its content.
    """

    file: Path
    spec: TrainingSpec

    flow_name: ClassVar[str] = retrain.name
    entrypoint: ClassVar[str] = "flows.retrain.retrain"
    parameter: ClassVar[str] = "training"
    noun: ClassVar[str] = "training file"

    @staticmethod
    def shown_as(name: str) -> str:
        """What a deploy calls the deployment with this name."""
        return f"{retrain.name}/{name}"

    @property
    def flow(self) -> Flow[Any, Any]:
        """As for a job file."""
        return retrain

    @property
    def description(self) -> str:
        """What is trained, on which rows, and what a version needs to become the champion, as Markdown."""
        parsed, gate = self.spec, self.spec.gate
        base = parsed.base.model + (f"@{parsed.base.revision}" if parsed.base.revision else "")
        holdout = parsed.data.holdout
        held = f"`{_paths(holdout)}`" if isinstance(holdout, SourceSpec) else f"{holdout.fraction:g} of these rows"
        approval = "none"
        if parsed.approval == "prefect":
            approval = f"by a person, in Prefect, within {parsed.approval_timeout_days:g} days"
        lines = [
            _starts(parsed),
            f"- trains: {parsed.task}, method {parsed.method}, objective {parsed.objective}, base `{base}`",
            f"- reads: `{_paths(parsed.data.train)}`; holdout: {held}",
            f"- gate: {gate.metric or 'metric of the task'} of at least {gate.floor:g}, a gain of more than "
            f"{gate.min_gain:g} at confidence {gate.confidence:g}",
            f"- approval: {approval}",
            f"- registry: `{parsed.registry}`",
        ]
        return _about(parsed, lines)

    @property
    def tags(self) -> list[str]:
        """The tags of the deployment and its runs."""
        return sorted({automations.TAG, self.spec.task, *self.spec.tags})

    @property
    def version(self) -> str:
        """Package version and a hash of the deployment's content; a new version is deployed again."""
        return _version(self)


# What is deployed: one of the two.
File = Job | Training
KINDS: tuple[type[File], ...] = (Job, Training)


def read(file: Path) -> File:
    """A job file or a training file, by its keys.

    Raises:
        SpecError: it is neither, or something in it is wrong.
    """
    content = load(file, (), "job or training file", [*JOB_KEYS, *TRAINING_KEYS], "")
    of_job, of_training = ([key for key in keys if key in content] for keys in (JOB_KEYS, TRAINING_KEYS))
    if len(of_job) > len(of_training):
        return Job(file, spec.read(file))
    if len(of_training) > len(of_job):
        return Training(file, training.read(file))
    raise SpecError(
        f"{file} has the keys {', '.join(map(str, content)) or 'of no kind'}, which make neither a job file (source, "
        "tasks, sink) nor a training file (base, data, registry); complete it, or move it out of the folder"
    )


def read_all(folder: Path) -> list[File]:
    """Every job file and training file under a folder.

    Raises:
        SpecError: the folder has none, one is wrong, or two have the same name, sink or registry.
    """
    found = [read(file) for file in files(folder)]
    # Events and artifacts have the name only, so a job and a training must not share one.
    _refuse_twice("name", [(each.spec.name, each) for each in found])
    _refuse_twice("sink.path", [(each.spec.sink.path, each) for each in found if isinstance(each, Job)])
    _refuse_twice("registry", [(each.spec.registry, each) for each in found if isinstance(each, Training)])
    return found


def _refuse_twice(key: str, values: Sequence[tuple[str, File]]) -> None:
    seen: dict[str, Path] = {}
    for value, each in values:
        if (other := seen.setdefault(value if key == "name" else _place(value), each.file)) != each.file:
            raise SpecError(f"{key} {value!r} is used in both {other} and {each.file}; give each file its own")


def _place(path: str) -> str:
    """One spelling for a folder or URL that can be written in several ways, such as `lake/out` and `./lake/out/`."""
    return path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))


def _starts(parsed: JobSpec | TrainingSpec) -> str:
    starts = [f"schedule `{parsed.schedule}`"] if parsed.schedule else []
    starts += [f"event `{parsed.trigger}`"] if parsed.trigger else []
    return f"- starts: {', '.join([*starts, 'by hand'])}"


def _paths(source: SourceSpec) -> str:
    found = source.path or source.table or source.dataset
    return found if isinstance(found, str) else ", ".join(found or [])


def _about(parsed: JobSpec | TrainingSpec, lines: Sequence[str]) -> str:
    return "\n".join([*([parsed.description, ""] if parsed.description else []), *lines])


def _version(file: File) -> str:
    content = [file.spec.model_dump(mode="json"), str(file.file), file.flow.parameters.model_dump(mode="json")]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{importlib.metadata.version('nightscribe')}+{digest[:10]}"
