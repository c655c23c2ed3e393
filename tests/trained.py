"""Tiny trained models, kept on this machine, because training some takes a minute and each process needs them.

A model is trained again when the code that trains it, a library or the processor is another.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from jobs.execute import cores
from tests.go_program import CACHE

LIBRARIES = ("tokenizers", "torch", "transformers")


def kept(name: str, code: Iterable[Path], make: Callable[[Path], object], folder: Path) -> Path:
    """A copy of a trained model.

    Args:
        name: names it among the others.
        code: the files that say how it is trained.
        make: trains it and writes it into an empty folder.
        folder: where the copy goes; must not exist yet.

    Returns:
        `folder`.
    """
    about = hashlib.sha256(cores.processor().encode())
    for library in LIBRARIES:
        about.update(importlib.metadata.version(library).encode())
    for file in code:
        about.update(file.read_bytes())
    home = CACHE / "trained" / f"{name}-{about.hexdigest()[:16]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.parent / f"{name}.lock"):
        if not home.exists():
            for older in home.parent.glob(f"{name}-{'?' * 16}"):
                shutil.rmtree(older)
            with tempfile.TemporaryDirectory(dir=home.parent) as unfinished:
                make(Path(unfinished, "made"))
                Path(unfinished, "made").rename(home)
        shutil.copytree(home, folder)
    return folder
