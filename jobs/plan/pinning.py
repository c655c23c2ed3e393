"""The models and adapters of a task, at one commit each."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from jobs.models import code, hub
from jobs.plan.first import FirstPlan
from jobs.plan.task import TaskPlan
from jobs.spec import JobSpec
from jobs.spec.first import FirstSpec
from jobs.spec.task import BASE, TaskSpec
from transforms import digest, lean
from transforms.errors import SpecError


def hash_while_importing(spec: JobSpec) -> None:
    """Hash the weights of local models while the libraries are imported that check models.

    `pin` finds the hashes then, and whatever reads a configuration the libraries.
    """
    named = [name for task in spec.tasks for name in (task.model, task.adapter, task.first and task.first.model)]
    folders = {folder for name in named if name and (folder := Path(name).expanduser()).is_dir()}
    if folders:
        with digest.ahead(folders):
            lean.load()


def pin(item: TaskSpec, i: int) -> TaskPlan:
    """A task with its models and adapters at one commit each; nothing is chosen for this machine yet.

    Args:
        item: a task with a model.
        i: its number.

    Raises:
        SpecError: keys contradict each other, or the code of a model is not trusted.
        ModelError: a model or an adapter cannot be found.
    """
    assert item.model is not None
    _check_device_map(item, i)
    model = hub.pin(item.model, item.revision, f"tasks.{i}.model", item.task)
    try:
        model = replace(model, code=code.require(model.commit, item.trust_remote_code))
    except SpecError as error:
        raise SpecError(f"tasks.{i}.{error}") from error
    adapter = item.adapter and hub.pin(item.adapter, item.adapter_revision, f"tasks.{i}.adapter", item.task)
    adapters = {
        name: None if value == BASE else hub.pin(value, None, f"tasks.{i}.adapters.{name}", item.task, "adapter")
        for name, value in (item.adapters or {}).items()
    }
    first = None if item.first is None else _pinned_first(item, item.first, i)
    if first is not None and (first.model.version, first.adapter) == (model.version, adapter or None):
        raise SpecError(f"tasks.{i}.first.model {first.model.name!r} has the weights of model; give a smaller model")
    return TaskPlan(item, model, adapter or None, item.dtype, item.engine, adapters=adapters, first=first)


def _pinned_first(item: TaskSpec, first: FirstSpec, i: int) -> FirstPlan:
    place = f"tasks.{i}.first"
    model = hub.pin(first.model, first.revision, f"{place}.model", item.task)
    try:
        code.require(model.commit, None)
    except SpecError as error:
        raise SpecError(f"{place}.{error}") from error
    adapter = first.adapter and hub.pin(first.adapter, first.adapter_revision, f"{place}.adapter", item.task)
    return FirstPlan(model, adapter or None, first.dtype, item.engine)


def _check_device_map(item: TaskSpec, i: int) -> None:
    """Refuse keys that contradict `device_map`, and a machine without the library that places the layers."""
    if item.device_map is None:
        return
    key = f"tasks.{i}.device_map is {item.device_map!r}"
    if item.adapters:
        raise SpecError(f"{key}, and adapters by row (adapters) need the whole model on one device; use adapter")
    if item.device != "auto":
        raise SpecError(f"{key}, which uses all GPUs, and device is {item.device!r}; leave out one of the two")
    if item.engine == "onnx":
        raise SpecError(f"{key}, and engine onnx computes on one device; use engine: auto")
    if item.dtype == "int8":
        raise SpecError(f"{key}, and int8 computes on a CPU; use dtype: auto, bfloat16, float16 or float32")
    if importlib.util.find_spec("accelerate") is None:
        raise SpecError(f"{key}, which needs accelerate, and it is not installed here; pip install accelerate")
