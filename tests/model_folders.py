"""Model folders that are damaged on purpose, and the attempt to use them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transforms import rehearsal
from transforms.errors import ModelError
from transforms.reference import ModelRef
from transforms.tasks import classify

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 4096\n"


def rehearse(folder: Path, task: str = "classify", options: Any = None) -> None:
    """Do what a plan does with a model: read its configuration, its tokenizer and the headers of its weights."""
    rehearsal.rehearse(ModelRef(str(folder)), task, options or classify.Options("text"))


def assert_damage_is_refused(whole: Path, folder: Path, damage: Callable[[Path], object], message: str) -> None:
    """Copy a whole model to `folder`, damage it there, and see that it is refused in one sentence with a fix."""
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        rehearse(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert str(folder) in said
    assert ";" in said, "what to do about it is missing"


def edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None takes one away."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def cut(file: Path, share: float) -> None:
    """Keep the first part of a file."""
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def remove_tokenizer(folder: Path) -> None:
    """Remove the tokenizer's files."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def write_word_list(folder: Path, words: list[str]) -> None:
    """Replace the tokenizer's files by a list of words."""
    remove_tokenizer(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
