"""Errors while weights load, as one sentence with the folder and the task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transforms.checkpoint.files import first_line
from transforms.errors import ModelError, NightscribeError, RunError
from transforms.reference import ModelRef


@contextmanager
def explaining(ref: ModelRef, task: str) -> Iterator[None]:
    """Replace a library's exception by one sentence that names the model and the task.

    Most errors in a folder are found earlier (transforms.rehearsal); this handles those that appear only when weights
    are read.

    Raises:
        ModelError: in the place of any exception that is not one of Nightscribe's.
        RunError: there is not enough memory.
    """
    try:
        yield
    except NightscribeError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise RunError(
            f"{task}: model {ref.path!r} does not fit into memory; choose a smaller model, or a machine with more"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{task}: model {ref.path!r} cannot be loaded ({first_line(error)}); "
            "copy its folder again from where it came from, or choose another model"
        ) from error


def require_all(missing: set[str], ref: ModelRef, architecture: str) -> None:
    """Refuse a network if some of its parameters were not loaded.

    Args:
        missing: names of the parameters that were not loaded.
        ref: the model.
        architecture: name of the class that loads the model for its task.

    Raises:
        ModelError: `missing` is not empty.
    """
    if missing:
        raise ModelError(
            f"model {ref.path!r} has no weights for {', '.join(sorted(missing)[:4])}; it was not trained for this task "
            f"({architecture}), or config.json describes a larger network: choose another, or add an adapter"
        )
