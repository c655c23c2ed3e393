"""`nightscribe tasks` for people: every key explained, in words of YAML."""

import re

import pytest
import yaml

from jobs import spec
from jobs.spec import TaskSpec, tasks
from jobs.spec.first import TASKS, FirstSpec
from transforms import registry
from transforms.options import describe, in_words

PYTHON_WORDS = re.compile(r"\b(?:None|str|int|float|bool|dict|True|False|Options|optional\[)\b")


@pytest.mark.parametrize("name", registry.names())
def test_a_task_s_page_explains_every_key_without_words_of_python(name):
    page = tasks.page(name)
    keys = [option.name for option in describe(registry.get(name).Options)]
    keys += [key for key in TaskSpec.model_fields if key not in ("task", "first")]
    keys += ["first", *(f"first.{key}" for key in FirstSpec.model_fields)] if name in TASKS else []
    for key in keys:
        paragraph = next(paragraph for paragraph in page.split("\n\n") if paragraph.startswith(f"{key}: "))
        assert re.search(r"\((required|optional|default .+)\)", paragraph), paragraph
        assert paragraph.count("\n    ") >= 1, f"{key} is not explained"
    assert not PYTHON_WORDS.findall(page)
    assert max(map(len, page.splitlines())) <= 110


def test_the_overview_names_every_task_with_what_it_gives_and_its_keys():
    overview = tasks.overview()
    for name in registry.names():
        paragraph = next(paragraph for paragraph in overview.split("\n\n") if paragraph.startswith(name))
        assert "gives " in paragraph
        for option in describe(registry.get(name).Options):
            assert re.search(rf"\b{option.name}\b", paragraph)
    assert "model, revision, adapter" in overview
    assert not PYTHON_WORDS.findall(overview)


def test_types_are_described_in_words():
    assert in_words(int | None) == "a whole number"
    assert in_words(TaskSpec.model_fields["engine"].annotation) == "auto, torch or onnx"
    assert in_words(list[str] | None) == "a list, as [first, second], each item a text"


def test_defaults_are_written_as_in_a_job_file():
    by_name = {option.name: option for option in describe(registry.get("zero_shot").Options)}
    assert by_name["multi_label"].default == "false"
    assert by_name["hypothesis"].default == "This example is {}."
    assert by_name["labels"].default is None
    assert by_name["column"].required


@pytest.mark.parametrize("name", registry.names())
def test_the_example_on_a_task_s_page_is_a_valid_job(name):
    lines = tasks.page(name).split("In a job file:\n")[1].split("\nGives ")[0]
    job = yaml.safe_load(lines) | {"name": "example", "source": {"path": "in"}, "sink": {"path": "out"}}
    assert spec.parse(job).tasks[0].task == name
