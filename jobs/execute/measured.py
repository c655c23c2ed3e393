"""What was measured on this machine, kept in the user's cache: a JSON file for each machine and each thing measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from pathlib import Path
from typing import Any

from jobs.execute import cores
from transforms import user_cache

LOG = logging.getLogger(__name__)

LIBRARIES = ("nightscribe", "torch", "transformers", "tokenizers", "peft")
# Variables that change what oneDNN and torch compute with.
INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def file(folder: str, about: Any) -> Path:
    """Where something that was measured is kept: another file on another machine, and with other libraries.

    Args:
        folder: the kind of thing.
        about: all that it depends on beside the machine and the libraries, as JSON.
    """
    machine: dict[str, Any] = {
        "processor": cores.processor(),
        "cores": cores.available(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "about": about,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    # Only where they are set, so that what was measured before is still found.
    machine |= {name: os.environ[name] for name in INSTRUCTIONS if name in os.environ}
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return user_cache.folder(folder) / f"{digest}.json"


def keep(path: Path, content: bytes) -> None:
    """Write a file of this cache; one that cannot be written is only warned of."""
    try:
        user_cache.write(path, content)
    except OSError as error:
        LOG.warning("%s cannot be written, so it is measured again in the next run: %s", path, error.strerror)
