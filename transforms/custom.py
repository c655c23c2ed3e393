"""A task defined outside this project: an importable module, checked against the interface in transforms/contract.py.

An exception or a wrong result of such a module becomes one sentence; a row that makes it raise is rejected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

import pyarrow as pa

from transforms.contract import Annotation, Annotator, Failure, failures_of
from transforms.errors import NightscribeError, RunError, SpecError
from transforms.options import column_kinds

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.model import Model

PARTS = ("ARCHITECTURE", "VERSION", "Options", "check", "output_type", "load")


def exists(name: str) -> bool:
    """Whether Python finds the module, or its top-level package; nothing is imported."""
    first, *others = name.split(".")
    if not all(part.isidentifier() for part in (first, *others)):
        return False
    try:
        return find_spec(first) is not None
    # A module that is running, such as __main__, may have no specification.
    except ValueError:
        return False


class CustomTask:
    """A task in a module outside transforms/tasks/.

    Args:
        name: the module's dotted name.

    Raises:
        SpecError: the module cannot be imported, or does not have the interface of a task.
    """

    def __init__(self, name: str):
        self.name = name
        try:
            self.module: Any = importlib.import_module(name)
        # Importing runs the module's code; a script may call sys.exit.
        except (Exception, SystemExit) as error:
            raise SpecError(f"task {name!r} cannot be imported: {_error_line(error)}; correct the module") from error
        _check_shape(name, self.module)
        self.ARCHITECTURE: str | None = self.module.ARCHITECTURE
        self.VERSION: int = self.module.VERSION
        self.Options: type = self.module.Options
        self.__doc__ = self.module.__doc__

    @property
    def version(self) -> str:
        """VERSION and a hash of the source code, so that the column is computed again after the module is edited."""
        file = Path(self.module.__file__)
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        digest = hashlib.blake2b(digest_size=16)
        for path in files:
            digest.update(path.read_bytes())
        return f"{self.VERSION}-{digest.hexdigest()}"

    def check(self, options: Any, config: PretrainedConfig | None) -> None:
        """Refuse a model that cannot do the task.

        Raises:
            SpecError: the module raised an exception that is not one of Nightscribe's.
        """
        self._call("check", options, config)

    def output_type(self, options: Any, config: PretrainedConfig | None) -> pa.DataType:
        """The Arrow type of the task's column.

        Raises:
            SpecError: the module raised an exception, or returned something else.
        """
        type_ = self._call("output_type", options, config)
        if not isinstance(type_, pa.DataType):
            raise SpecError(
                f"task {self.name!r}: output_type gave {type_!r}; it must give an Arrow type, such as pyarrow.string()"
            )
        return type_

    def load(self, options: Any, model: Model | None, max_tokens: int | None = None) -> Annotator:
        """The task, ready to annotate.

        Raises:
            SpecError: the module raised an exception, or returned something that is not callable.
        """
        annotator = self._call("load", options, model, max_tokens)
        if not callable(annotator):
            raise SpecError(
                f"task {self.name!r}: load gave {annotator!r}; it must give a function, RecordBatch -> Annotation"
            )
        texts = [column for column, kind in column_kinds(options) if kind == "text"]
        type_ = self.output_type(options, None if model is None else model.config)
        return lambda batch: _annotated(self.name, annotator, _with_strings(batch, texts), type_)

    def _call(self, part: str, *arguments: Any) -> Any:
        try:
            return getattr(self.module, part)(*arguments)
        except NightscribeError:
            raise
        except Exception as error:
            # At plan time a task is set up on a network without weights; reading its values fails.
            if any(_is_without_weights(argument) for argument in arguments):
                raise
            raise SpecError(f"task {self.name!r}: {part} failed: {_error_line(error)}") from error


def _check_shape(name: str, module: ModuleType) -> None:
    """Refuse a module that lacks a part of a task, or has a part of a wrong type.

    Raises:
        SpecError: the message names the part.
    """
    file = getattr(module, "__file__", None)
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise SpecError(
            f"task {name!r} ({file or 'a module without a file'}) lacks {', '.join(missing)}; "
            f"a task module has {', '.join(PARTS)} (transforms/tasks/README.md has an example)"
        )
    if file is None:
        raise SpecError(f"task {name!r} is a module without a source file; put it into a .py file")
    options, version, architecture = module.Options, module.VERSION, module.ARCHITECTURE
    if not isinstance(version, int) or isinstance(version, bool):
        raise SpecError(
            f"task {name!r}: VERSION is {version!r}; give a whole number, and increase it when the output changes"
        )
    if architecture is not None and not isinstance(architecture, str):
        raise SpecError(
            f"task {name!r}: ARCHITECTURE is {architecture!r}; give the name of a class that loads weights, such as "
            "'AutoModelForSequenceClassification', or None for a task without a model"
        )
    if not isinstance(options, type) or not dataclasses.is_dataclass(options) or not _is_frozen(options):
        raise SpecError(f"task {name!r}: Options is not a frozen dataclass; write @dataclass(frozen=True) above it")
    try:
        get_type_hints(options)
    # Resolve the names in annotations in the module's own namespace.
    except Exception as error:
        raise SpecError(f"task {name!r}: the types of Options cannot be read: {_error_line(error)}") from error
    for part in ("check", "output_type", "load"):
        if not callable(getattr(module, part)):
            raise SpecError(f"task {name!r}: {part} is {getattr(module, part)!r}; it must be a function")


def _is_without_weights(model: Any) -> bool:
    device = getattr(getattr(model, "network", None), "device", None)
    return getattr(device, "type", None) == "meta"


def _is_frozen(options: Any) -> bool:
    return bool(options.__dataclass_params__.frozen)


def _with_strings(batch: pa.RecordBatch, texts: list[str]) -> pa.RecordBatch:
    """The batch with its text columns converted to string from any other Arrow string type."""
    for name in texts:
        if (column := batch.column(name)).type != pa.string():
            batch = batch.set_column(batch.schema.get_field_index(name), name, column.cast(pa.string()))
    return batch


def _annotated(
    name: str, annotator: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch, type_: pa.DataType
) -> Annotation:
    """Annotate a batch; if that raises, find the rows that also raise on their own.

    Raises:
        RunError: the task returned something that is not an annotation of the batch.
        torch.AcceleratorError: the device is lost.
    """
    if not len(batch):
        return Annotation(pa.nulls(0, type_))
    try:
        given = annotator(batch)
    except NightscribeError:
        raise
    except Exception as error:
        from transforms.batches import device_is_lost

        if device_is_lost(error):
            raise
        if len(batch) == 1:
            return Annotation(pa.nulls(1, type_), failures_of({0: error}))
    else:
        return _checked(name, given, len(batch), type_)
    middle = len(batch) // 2
    left = _annotated(name, annotator, batch.slice(0, middle), type_)
    right = _annotated(name, annotator, batch.slice(middle), type_)
    moved = [Failure(middle + failure.row, failure.error_type, failure.message) for failure in right.failures]
    return Annotation(
        pa.concat_arrays([left.values, right.values]),
        [*left.failures, *moved],
        left.tokens + right.tokens,
        left.padded_tokens + right.padded_tokens,
    )


def _checked(name: str, given: Any, rows: int, type_: pa.DataType) -> Annotation:
    """Check that the result is an annotation with one value of the planned type for each row.

    Raises:
        RunError: it is no such annotation.
    """
    if not isinstance(given, Annotation):
        raise RunError(f"task {name!r} gave a {type(given).__name__}; it must give a transforms.contract.Annotation")
    values = given.values
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        raise RunError(f"task {name!r} gave values in a {type(values).__name__}; they must be a pyarrow.Array")
    if len(values) != rows:
        raise RunError(
            f"task {name!r} gave {len(values)} values for {rows} rows; give one value per row, null for a row without "
            "one"
        )
    try:
        values = values.cast(type_)
    except pa.ArrowException as error:
        raise RunError(
            f"task {name!r} gave values of type {values.type}, and its output_type is {type_}; both must be the same "
            "type"
        ) from error
    # What it says of cuts is not used: nothing checks it, and it is lost where a batch is halved.
    return dataclasses.replace(given, values=values, cut_at=None)


def _error_line(error: BaseException) -> str:
    """An exception of a custom module in one line, with the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)
    line = f" ({place[-1].filename}, line {place[-1].lineno})" if place and not isinstance(error, ImportError) else ""
    if isinstance(error, SyntaxError):
        line = f" ({error.filename}, line {error.lineno})"
    message = (error.msg if isinstance(error, SyntaxError) else str(error)).splitlines()
    return f"{type(error).__name__}: {message[0] if message else 'no message'}{line}"
