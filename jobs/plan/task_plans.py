"""Tasks of a job file, resolved: models pinned, engine and dtype chosen, columns checked."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.models import code
from jobs.plan import Plan, columns, fingerprint, pinning
from jobs.plan.first import FirstPlan, Measured
from jobs.plan.task import TaskPlan
from jobs.spec import JobSpec
from transforms import adapter as adapters
from transforms import garbage, registry
from transforms.by_row import kind
from transforms.errors import ModelError, SpecError, UnreachableModel, UserError
from transforms.reference import read_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.device import Shape

LOG = logging.getLogger(__name__)


def resolve(
    spec: JobSpec,
    source: pa.Schema,
    known: Mapping[str, pa.DataType],
    kept: Callable[[str], Measured | None] = lambda key: None,
) -> tuple[list[TaskPlan], pa.Schema]:
    """Resolve each task and check that the columns it reads exist.

    Args:
        spec: the job.
        source: columns of the source.
        known: types of columns that earlier runs computed, see `output_keys`; without them, the configuration of the
            model is read, which imports transformers.
        kept: key of a task with `first` -> what an earlier run measured for it.

    Returns:
        The tasks, and the schema with the column that each of them adds.

    Raises:
        SpecError: a column is missing, has the wrong type, or exists already.
        ModelError: a model or adapter does not fit its task.
    """
    planned: list[TaskPlan] = []
    schema = source
    for i, item in enumerate(spec.tasks):
        module = registry.get(item.task)
        options = item.options
        columns.check(item, i, schema, "the source" if spec.source.columns is None else "source.columns")
        if item.into in schema.names:
            raise SpecError(f"tasks.{i}.into is {item.into!r}, which the source already has; choose another name")
        # A sink that has such columns goes on.
        if not known and (same := {name.lower(): name for name in schema.names}.get(item.into.lower())) is not None:
            raise SpecError(
                f"tasks.{i}.into is {item.into!r}, and there is a column {same!r}: SQL takes the two for one; choose "
                f"another name"
            )
        has_model = module.ARCHITECTURE is not None and item.model is not None
        if has_model and not known and all(each.model is None for each in planned):
            # A new sink, in which every model is checked.
            pinning.hash_while_importing(spec)
        task_plan = pinning.pin(item, i) if has_model else TaskPlan(item)
        if task_plan.first is not None:
            task_plan = replace(task_plan, first=keyed(planned, task_plan, source))
        type_ = known.get(output_keys([*planned, task_plan], source)[-1]) if has_model else None
        if type_ is not None:
            task_plan = replace(task_plan, was_loaded=True)
        else:
            try:
                type_ = _output_type(task_plan) if has_model else module.output_type(options, None)
                if task_plan.first is not None:
                    # Imported here because it reads configurations, as little else does.
                    from jobs.cascade import labels

                    labels.check(task_plan)
            except UserError as error:
                raise type(error)(f"tasks.{i}: {error}") from error
        if (first := task_plan.first) is not None:
            task_plan = replace(task_plan, first=replace(first, measured=kept(first.key)))
        schema = schema.append(pa.field(item.into, type_))
        planned.append(task_plan)
    return planned, schema


def _output_type(task_plan: TaskPlan) -> pa.DataType:
    """The Arrow type of a task's column, which all adapters of the task must give.

    Raises:
        UserError: the model or an adapter does not fit the task.
        SpecError: two adapters give different types.
    """
    options, module = task_plan.spec.options, registry.get(task_plan.spec.task)
    if not task_plan.adapters:
        return module.output_type(options, configured(task_plan))
    configs = zip(task_plan.adapters, configurations(task_plan), strict=True)
    types = {name: module.output_type(options, config) for name, config in configs}
    first, *others = types
    if odd := [name for name in others if types[name] != types[first]]:
        raise SpecError(
            f"adapters.{odd[0]} gives {types[odd[0]]} and adapters.{first} gives {types[first]}, and a column has one "
            "type; give them to tasks with different columns"
        )
    return types[first]


def configurations(task_plan: TaskPlan) -> list[PretrainedConfig]:
    """The configuration of a task's model with the labels of each of its adapters, in their order; one without any.

    Raises:
        UserError: the model or an adapter does not fit the task, or adapters by row are no plain LoRA.
    """
    if not task_plan.adapters:
        return [configured(task_plan)]
    found = []
    for name, pin in task_plan.adapters.items():
        alone = replace(task_plan, adapter=pin, adapters={})
        try:
            if pin is not None:
                kind.check(str(alone.reference(weights=False).adapter))
            found.append(configured(alone))
        except UserError as error:
            raise type(error)(f"adapters.{name}: {error}") from error
    return found


def configured(task_plan: TaskPlan) -> PretrainedConfig:
    """The configuration of a task's model, labels of its adapter included.

    Raises:
        UserError: the model or the adapter does not fit the task.
    """
    item = task_plan.spec
    module = registry.get(item.task)
    reference = task_plan.reference(weights=False)
    assert task_plan.model is not None
    code.check(reference.path, task_plan.model.commit, task_plan.model.code)
    config = read_config(reference)
    if reference.adapter is not None and item.model is not None:
        adapters.check(reference.adapter, reference.path, item.model)
    # An adapter may have a head that its base model lacks.
    if task_plan.adapter is None:
        module.check(item.options, config)
    return config


def hashes(planned: Sequence[TaskPlan], schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    """The hash of everything that can change each task's column, on this machine.

    Args:
        planned: the tasks, in order.
        schema: columns of the source.

    Returns:
        (column, hash) of each task; see `fingerprint.of_tasks`.
    """
    identities = []
    for task in planned:
        reads = task.spec.reads
        names = sorted({column.split(".")[0] for column in reads} & set(schema.names))
        # Types matter: a prompt shows 1 and 1.0 as different texts.
        types = {name: str(schema.field(name).type) for name in names}
        identities.append((task.spec.into, task.identity | {"types": types}, reads))
    return fingerprint.of_tasks(identities)


def output_keys(planned: Sequence[TaskPlan], schema: pa.Schema) -> list[str]:
    """For each task, a name of its column's type that is the same as long as its model and transformers are.

    Args:
        planned: the tasks, in order.
        schema: columns of the source.
    """
    library = importlib.metadata.version("transformers")
    # As without `first`, whose threshold does not change the type.
    values = [value for _, value in hashes([task.large for task in planned], schema)]
    firsts = [f" first {task.first.key}" if task.first is not None else "" for task in planned]
    return [f"{value} transformers {library}{first}" for value, first in zip(values, firsts, strict=True)]


def keyed(before: Sequence[TaskPlan], task: TaskPlan, schema: pa.Schema) -> FirstPlan:
    """The smaller model of a task with the key of its measurement: all that the measurement depends on but the rows.

    Args:
        before: the tasks before it.
        task: a task with `first`.
        schema: columns of the source.
    """
    first, asked = task.first, task.spec.first
    assert first is not None
    assert asked is not None
    versions = [pin.version for pin in first.pins]
    own = [hashes([*before, task.large], schema)[-1][1], versions, asked.dtype, asked.agree, asked.confidence]
    return replace(first, key=fingerprint.digest(own))


def outputs(plan: Plan) -> pa.Schema:
    """The key and column type of each task whose models were loaded or checked, for this plan or for an earlier one."""
    keyed = zip(plan.tasks, output_keys(plan.tasks, plan.source.schema), strict=True)
    return pa.schema(
        [
            pa.field(key, plan.schema.field(task.spec.into).type)
            for task, key in keyed
            if task.model is not None and (plan.todo or task.was_loaded)
        ]
    )


def choose(task: TaskPlan, i: int, is_here: bool) -> TaskPlan:
    """Choose the device, engine and dtype of a task on this machine, unless they are chosen already.

    Args:
        task: the task, pinned.
        i: its number.
        is_here: whether it is computed on this machine.

    Raises:
        SpecError: this machine lacks the device.
        ModelError: the engine is not installed, or cannot compute this dtype.
    """
    if task.model is None or task.device != "auto":
        return task
    item = task.spec
    # Imported here because it imports torch, which takes a second and which a night without new rows does not need.
    with garbage.importing("torch"):
        from transforms import engines
        from transforms.device import check, choose_device, choose_dtype

    if is_here:
        try:
            check(item.device)
        except ModelError as error:
            raise SpecError(f"tasks.{i}.{error}") from error
    device = choose_device(item.device)
    try:
        engine = engines.choose(item.engine, item.dtype, device)
    except ModelError as error:
        raise ModelError(f"tasks.{i}: {error}") from error
    dtype = "float32" if engine == "onnx" else choose_dtype(item.dtype, item.device, lambda: _shape(task))
    first = task.first
    if first is not None and (small := task.small) is not None:
        chosen = choose(replace(small, device="auto"), i, is_here)
        first = replace(first, dtype=chosen.dtype, engine=chosen.engine, device=chosen.device)
    return replace(task, dtype=dtype, engine=engine, device=str(device), first=first)


def _shape(task: TaskPlan) -> Shape:
    """The sizes of the layers of a task's model, without its weights."""
    from transforms.device import Shape

    try:
        return Shape.of(read_config(task.reference(weights=False)))
    except (UserError, UnreachableModel, OSError) as error:
        # The run tells what is wrong with the model.
        LOG.debug("the sizes of %s could not be read: %s", task.spec.into, error)
        return Shape()
