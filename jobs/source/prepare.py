"""`source.prepare`: a function of the user, RecordBatch -> RecordBatch, between the source and the first task.

It may change, add and drop columns and rows. It is called with one batch at a time, in order, never with an empty one,
and must give the same columns each time.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from types import ModuleType

import pyarrow as pa

from jobs import user_code
from jobs.source import rows
from transforms.errors import NightscribeError, SourceError, SpecError

Prepare = Callable[[pa.RecordBatch], pa.RecordBatch]


def load(reference: str) -> Prepare:
    """Import a `module:function`.

    Raises:
        SpecError: it cannot be imported, or is not a function.
    """
    name = reference.partition(":")[2]
    try:
        function = getattr(_module(reference), name)
    except AttributeError as error:
        raise SpecError(f"source.prepare {reference!r} cannot be imported: {error}") from error
    if not callable(function):
        raise SpecError(f"source.prepare {reference!r} is a {type(function).__name__}, not a function")
    return function


def version(reference: str) -> str:
    """A hash of the source of the module, and of the module that the function was defined in, if it is another one.

    Changes in other modules that they import are not noticed.

    Raises:
        SpecError: it cannot be imported.
    """
    function = load(reference)
    digest = hashlib.sha256()
    for module in dict.fromkeys([_module(reference), inspect.getmodule(function)]):
        file = getattr(module, "__file__", None)
        if file is None:
            digest.update(reference.encode())
            continue
        with open(file, "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def apply(
    prepare: Prepare, batch: pa.RecordBatch, reference: str, place: str, wrong: type[NightscribeError]
) -> pa.RecordBatch:
    """Call a prepare function and check what it returns.

    Args:
        prepare: the function.
        batch: rows for it.
        reference: its name in the job file.
        place: which rows these are, for messages.
        wrong: the error to raise.

    Raises:
        NightscribeError: of the class `wrong`: the function failed, or did not return a RecordBatch.
    """
    try:
        result = prepare(batch)
    except (Exception, SystemExit) as error:
        # A function of the user may raise any exception.
        said = f"{type(error).__name__}: {user_code.told(error)}{user_code.line(error)}"
        raise wrong(
            f"source.prepare {reference!r} failed on {place}: {said}; correct the function and run again"
        ) from error
    if not isinstance(result, pa.RecordBatch):
        raise wrong(
            f"source.prepare {reference!r} returned a {type(result).__name__} for {place}; it must return a "
            f"pyarrow.RecordBatch"
        )
    if twice := [name for name in result.schema.names if result.schema.names.count(name) > 1]:
        raise wrong(f"source.prepare {reference!r} returned two columns {twice[0]!r} for {place}; rename one of them")
    return result


def conform(batch: pa.RecordBatch, schema: pa.Schema, reference: str, place: str) -> pa.RecordBatch:
    """Check that a prepared batch has the columns that were planned, and convert it to their order and types.

    Raises:
        SourceError: a column is missing, is new, or does not fit its type.
    """
    found, planned = batch.schema.names, schema.names
    if odd := [name for name in (*planned, *found) if (name in found) != (name in planned)]:
        verb = "dropped" if odd[0] in planned else "added"
        raise SourceError(
            f"source.prepare {reference!r} {verb} column {odd[0]!r} for {place}, unlike for the first rows; "
            f"it must return the same columns for every batch"
        )
    return rows.conform(batch, schema, f"source.prepare {reference!r} for {place}")


def _module(reference: str) -> ModuleType:
    module, colon, name = reference.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise SpecError(f"source.prepare {reference!r} is not module:function, such as my_pkg.clean:strip_html")
    if module.endswith(".py"):
        file = f"{module.removesuffix('.py')}:{name}"
        raise SpecError(f"source.prepare {reference!r} names a file; name the module, as Python imports it: {file}")
    return user_code.module(reference, "source.prepare")
