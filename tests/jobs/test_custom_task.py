"""A task of one's own in a job file: the example of the documentation as it is written there."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import lake

DOCUMENTATION = Path(__file__).parents[2] / "transforms" / "tasks" / "README.md"
TEXTS = ["Please write to zoe@example.org soon", "nothing to hide", None, "a@b and c@d"]
REDACTED = ["Please write to [e-mail] soon", "nothing to hide", None, "[e-mail] and [e-mail]"]


@pytest.fixture
def folder(tmp_path):
    """A folder with the example's module, a lake of three files and a job file with the example's task."""
    section = DOCUMENTATION.read_text().split("## A task of your own")[1]
    package = tmp_path / "my_pkg"
    package.mkdir()
    (package / "redact.py").write_text(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1])
    task = re.search(r"```yaml\n- (.*?)\n```", section, re.DOTALL)[1]
    (tmp_path / "in").mkdir()
    for n in range(3):
        pq.write_table(pa.table({"id": [n] * 4, "body": TEXTS}), tmp_path / "in" / f"{n}.parquet")
    (tmp_path / "job.yaml").write_text(f"name: redacted\nsource: {{path: in}}\ntasks:\n- {task}\nsink: {{path: out}}\n")
    return tmp_path


def run(folder, *overrides):
    done = lake.command("run", "--quiet", "job.yaml", *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_example_runs_as_it_is_written(folder, workers):
    report = run(folder, f"runner.workers={workers}")
    assert (report["rows_out"], report["rows_rejected"]) == (12, 0)
    assert lake.read(folder / "out").sort_by("id")["clean"].to_pylist() == REDACTED * 3
    assert run(folder)["rows_in"] == 0


def test_after_the_module_is_edited_its_column_is_computed_again(folder):
    run(folder)
    file = folder / "my_pkg" / "redact.py"
    file.write_text(file.read_text().replace("[e-mail]", "[gone]"))
    assert run(folder)["rows_out"] == 12
    assert lake.read(folder / "out")["clean"].to_pylist()[0] == "Please write to [gone] soon"


def test_its_options_are_checked_and_explained_like_those_of_any_task(folder):
    wrong = lake.command("plan", "job.yaml", "tasks.0.marc=x", cwd=folder)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("nightscribe: job.yaml: tasks.0.marc is not a key; did you mean mark?; keys: column")
    assert (
        "column 'text' is not in the source"
        in lake.command("plan", "job.yaml", "tasks.0.column=text", cwd=folder).stderr
    )
    page = lake.command("tasks", "my_pkg.redact", cwd=folder).stdout
    assert "Redaction: e-mail addresses of a text replaced by a mark." in page
    assert "mark: a text (default [e-mail])" in page
    assert "Gives a text; null where the text is null." in page


def test_a_missing_module_and_one_without_the_interface_are_reported_in_one_sentence(folder):
    for name, complaint in [
        ("my_pkg.nothing", "task 'my_pkg.nothing' cannot be imported: ModuleNotFoundError"),
        ("nothing_at_all", "tasks.0.task is 'nothing_at_all'; tasks: answer"),
        ("my_pkg", "lacks ARCHITECTURE, VERSION, Options, check, output_type, load"),
    ]:
        done = lake.command("plan", "job.yaml", f"tasks.0.task={name}", cwd=folder)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_options_that_a_job_file_cannot_set_are_refused(folder):
    file = folder / "my_pkg" / "redact.py"
    source = file.read_text()
    for field, complaint in [
        ("model: str = 'x'", "has a field 'model', a key of every task; rename it"),
        ("size: 'NoSuchType' = 1", "the types of Options cannot be read: NameError: name 'NoSuchType' is not defined"),
        ("port: socket.socket = None", "Options of my_pkg.redact: PydanticSchemaGenerationError: Unable to generate"),
    ]:
        option = 'mark: str = "[e-mail]"'
        file.write_text("import socket\n" + source.replace(option, f"{option}\n    {field}"))
        done = lake.command("plan", "job.yaml", cwd=folder)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
