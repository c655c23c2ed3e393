"""Adapters over tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rows_by_adapter import SHAPES
from tests.tiny_adapters import lora


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """Three adapters of different shapes over a base."""

    def make(base: Path, head: str, **more: Any) -> list[Path]:
        root = tmp_path_factory.mktemp("adapters")
        return [lora(base, root / f"{i}", i, head, **(shape | more)) for i, shape in enumerate(SHAPES)]

    return make
