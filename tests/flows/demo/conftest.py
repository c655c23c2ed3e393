"""A lake of the demo and the models that are trained on it, smaller than those of the demo."""

from pathlib import Path

import pyarrow as pa
import pytest

from flows import demo
from flows.demo.lake import write_lake
from flows.demo.models import Course, Recipe, train_models
from tests.trained import kept

SMALL = Recipe(
    classify=Course((40,) * 12 + (256,), ((-1, -2, 1),)),
    ner=Course((64,) * 12 + (256,), ((-1, 1, -2, 2), (-1, 1))),
    vocabulary=2500,
    hidden=96,
    batch_tokens=384,
)


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    write_lake(folder, rows=1000)
    return folder


@pytest.fixture(scope="session")
def trained(lake, tmp_path_factory):
    code = [Path(__file__), *sorted(Path(demo.__file__).parent.glob("*.py"))]
    home = tmp_path_factory.mktemp("models")
    kept(f"demo-{pa.__version__}", code, lambda folder: train_models(lake, folder, recipe=SMALL), home / "kept")
    return train_models(lake, home / "kept", recipe=SMALL)
