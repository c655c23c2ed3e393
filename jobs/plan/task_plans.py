"""Tasks of a job file, resolved: models pinned, engine and dtype chosen, columns checked."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.models import code, hub
from jobs.plan import Plan, TaskPlan, fingerprint
from jobs.plan.first import FirstPlan, Measured
from jobs.spec import JobSpec
from jobs.spec.first import FirstSpec
from jobs.spec.task import BASE, TaskSpec
from transforms import adapter as adapters
from transforms import registry
from transforms.by_row import kind
from transforms.errors import ModelError, SpecError, UserError
from transforms.options import ColumnKind, column_kinds
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
        columns = dict(_columns(schema)) | dict(zip(schema.names, schema.types, strict=True))
        for column, wanted in column_kinds(options):
            if column not in columns:
                raise SpecError(f"tasks.{i}: column {column!r} is not in the source; columns: {', '.join(columns)}")
            if not _holds(type_ := columns[column], wanted):
                right = [name for name, type_ in columns.items() if _holds(type_, wanted)]
                raise SpecError(
                    f"tasks.{i}: column {column!r} is {type_}, and {item.task} reads {wanted}; "
                    f"{wanted} columns: {', '.join(right) or 'none'}"
                )
        if item.adapter_column is not None:
            _check_names(item.adapter_column, columns, f"tasks.{i}.adapter_column")
        if item.into in schema.names:
            raise SpecError(f"tasks.{i}.into is {item.into!r}, which the source already has; choose another name")
        has_model = module.ARCHITECTURE is not None and item.model is not None
        task_plan = _pinned(item, i) if has_model else TaskPlan(item)
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
        columns = task.spec.reads
        names = sorted({column.split(".")[0] for column in columns} & set(schema.names))
        # Types matter: a prompt shows 1 and 1.0 as different texts.
        types = {name: str(schema.field(name).type) for name in names}
        identities.append((task.spec.into, task.identity | {"types": types}, columns))
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
    except (UserError, OSError) as error:
        # The run tells what is wrong with the model.
        LOG.debug("the sizes of %s could not be read: %s", task.spec.into, error)
        return Shape()


def _pinned(item: TaskSpec, i: int) -> TaskPlan:
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


def _check_names(column: str, columns: Mapping[str, pa.DataType], key: str) -> None:
    """Refuse a column that cannot hold the names of adapters.

    Raises:
        SpecError: the column does not exist, or holds neither texts nor whole numbers.
    """
    if column not in columns:
        raise SpecError(f"{key}: column {column!r} is not in the source; columns: {', '.join(columns)}")
    if not holds_names(columns[column]):
        right = [name for name, type_ in columns.items() if holds_names(type_)]
        raise SpecError(
            f"{key}: column {column!r} is {columns[column]}, and names of adapters are texts or whole numbers; "
            f"such columns: {', '.join(right) or 'none'}"
        )


def holds_names(type_: pa.DataType) -> bool:
    """Whether a column of that Arrow type can name adapters."""
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    return _holds(type_, "text") or pa.types.is_integer(value) or pa.types.is_boolean(value)


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


def _columns(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Every column, and the fields of structs as `column.field`, with their types."""
    for field in fields:
        if not above or "." not in field.name:
            yield above + field.name, field.type
            if pa.types.is_struct(field.type):
                yield from _columns(field.type, f"{above}{field.name}.")


def _holds(type_: pa.DataType, kind: ColumnKind) -> bool:
    """Whether a column of that Arrow type is what a task reads."""
    if kind == "list<string>":
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_list(type_) for is_list in lists) and _holds(type_.value_type, "text")
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
