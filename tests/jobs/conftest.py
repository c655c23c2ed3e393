"""A task that writes down its texts, and fails for those that a file names; and trainings in the process of a test."""

import pytest

TASK = '''"""Shouting: a text in capitals."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from transforms.contract import Annotation
from transforms.options import column_field

ARCHITECTURE, VERSION = None, 1
FOLDER = Path({folder!r})


@dataclass(frozen=True)
class Options:
    column: str = column_field("text column")
    other: str | None = column_field("another text column", default=None)
    mark: str = ""


def check(options, config):
    """Nothing to refuse."""


def output_type(options, config):
    """A text; null where the text is null."""
    return pa.string()


def load(options, model, max_tokens=None):
    with open(FOLDER / "loaded", "a") as log:
        log.write(options.column + "\\n")

    def shout(batch):
        columns = [options.column, *([options.other] if options.other else [])]
        rows = list(zip(*(batch[name].to_pylist() for name in columns)))
        refused = (FOLDER / "refused").read_text().split() if (FOLDER / "refused").exists() else []
        if any(text in refused for row in rows for text in row):
            raise ValueError("too loud")
        with open(FOLDER / "computed", "a") as log:
            log.writelines("+".join(map(str, row)) + "\\n" for row in rows)
        loud = [None if row[0] is None else options.mark + "+".join(map(str, row)).upper() for row in rows]
        return Annotation(pa.array(loud, pa.string()), tokens=len(rows))

    return shout
'''


class Log:
    """What the task of this test has computed.

    Attributes:
        folder: where it writes it down.
    """

    def __init__(self, folder):
        self.folder = folder

    def taken(self):
        """The texts that were computed since the last call, sorted."""
        return self._take("computed")

    def loaded(self):
        """The tasks that were loaded since the last call, each by its column."""
        return self._take("loaded")

    def refuse(self, *texts):
        """From now on the task fails for these texts, and for no others."""
        (self.folder / "refused").write_text(" ".join(texts))

    def _take(self, name):
        file = self.folder / name
        found = sorted(file.read_text().splitlines()) if file.exists() else []
        file.unlink(missing_ok=True)
        return found


@pytest.fixture
def shout(tmp_path, monkeypatch):
    """The task `shouting.NAME` of this test, as a Log."""
    folder = tmp_path / "shouting"
    folder.mkdir()
    # A name of its own, because Python keeps the modules of earlier tests.
    name = f"shouting_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(TASK.format(folder=str(folder)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    log = Log(folder)
    log.task = name
    return log


@pytest.fixture
def in_process():
    """Trainings run in the process of the test."""
    # Found here, because most tests need no torch.
    from tests.jobs.training import made

    with made.in_this_process():
        yield
