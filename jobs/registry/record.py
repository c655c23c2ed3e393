"""Reading the JSON files of a registry: a damaged one is named in one sentence."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from jobs.spec.complaint import sentence
from transforms.errors import UnreadableRegistry

T = TypeVar("T")


def parse(form: TypeAdapter[T], text: bytes, place: str, fix: str) -> T:
    """The content of a file.

    Args:
        form: of the class that it describes.
        text: the file.
        place: its path, for the error.
        fix: what to do about a damaged one.

    Raises:
        UnreadableRegistry: it is no JSON, or a key is missing or has a value of another type.
    """
    try:
        return form.validate_python(json.loads(text))
    except ValidationError as error:
        what = sentence(error, ())
    except ValueError as error:
        what = str(error)
    raise UnreadableRegistry(f"{place} is damaged ({what}); {fix}")
