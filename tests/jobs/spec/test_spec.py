"""A job file that says something wrong gets one sentence: what, where, and what would be right."""

import pytest
import yaml

from jobs import spec
from jobs.spec.content import load, override_key
from transforms.errors import SpecError

GOOD = {
    "name": "reviews-nightly",
    "source": {"path": "lake/**/*.parquet", "columns": ["id", "text"], "where": "lang = 'en'", "limit": 10},
    "tasks": [{"task": "classify", "column": "text", "model": "org/model", "into": "sentiment", "top_k": 2}],
    "sink": {"path": "out"},
    "errors": {"max_fraction": 0.5},
    "runner": {"name": "local", "workers": "auto", "options": {}},
}


def complaint(*overrides: str, drop: str | None = None) -> str:
    content = yaml.safe_load(yaml.safe_dump(GOOD))
    if drop:
        del content[drop]

    def read() -> None:
        for override in overrides:
            override_key(content, override)
        spec.parse(content, "job.yaml")

    with pytest.raises(SpecError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_job_file_is_read_with_the_options_of_its_tasks():
    parsed = spec.parse(GOOD)
    assert parsed.tasks[0].options.top_k == 2
    assert parsed.tasks[0].options.long_text == "truncate"
    assert parsed.errors.max_fraction == 0.5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("source.pth=x", "job.yaml: source.pth is not a key; did you mean path?; keys: path, format"),
        ("colour=1", "job.yaml: colour is not a key; keys: name, source, tasks, sink"),
        ("source.limit=0", "job.yaml: source.limit is 0; input should be greater than 0"),
        ("source.limit=many", "job.yaml: source.limit is 'many'; input should be a valid integer"),
        ("source.format=orc", "job.yaml: source.format is 'orc'; choices: 'parquet', 'csv', 'jsonl' or 'arrow'"),
        ("source.dataset=org/x", "job.yaml: source: give one of path (files), table"),
        (
            "source.revision=main",
            "job.yaml: source: revision needs dataset, which is not given; remove revision, or set dataset",
        ),
        ("tasks.0.task=clasify", "job.yaml: tasks.0.task is 'clasify'; did you mean classify?; tasks: "),
        ("tasks.0.topk=2", "job.yaml: tasks.0.topk is not a key; did you mean top_k?; keys: column, top_k"),
        ("tasks.0.top_k=0", "job.yaml: tasks.0: top_k is 0; give a number of labels from 1, or all"),
        ("tasks.0.long_text=cut", "job.yaml: tasks.0.long_text is 'cut'; choices: 'truncate' or 'window'"),
        (
            "tasks.0.dtype=fp32",
            "job.yaml: tasks.0.dtype is 'fp32'; choices: 'auto', 'float32', 'bfloat16', 'float16' or 'int8'",
        ),
        ("tasks.0.device=gpu", "job.yaml: tasks.0.device is 'gpu'; give auto, cpu, mps, cuda, or cuda:1 for"),
        ("tasks.0.model=null", "job.yaml: tasks.0.model is missing; classify needs a Hub name or a model folder"),
        ("errors.max_fraction=2", "job.yaml: errors.max_fraction is 2; input should be less than or equal to 1"),
        ("runner.workers=0", "job.yaml: runner.workers: 0 is not a number of workers; give 1 or more"),
        ("tasks.0.trust_remote_code=main", "job.yaml: tasks.0.trust_remote_code is 'main'; give a commit, 40 digits"),
        (
            "tasks.0.into=no",
            "job.yaml: tasks.0.into is False; a text is needed, in quotes if YAML takes it",
        ),
        ("source=in", "job.yaml: source is 'in'; keys with values are needed below it"),
        ("source.columns=text", "job.yaml: source.columns is 'text'; a list is needed: [a, b], or an entry a line"),
        ("tasks=[]", "job.yaml: tasks is []; list should have at least 1 item"),
        ("name=a b", "job.yaml: name is 'a b'; give letters, digits and . _ - of which"),
        ("tasks.7.dtype=auto", "override 'tasks.7.dtype': '7' is not an index of a list of 1; the first is 0"),
        ("source", "override 'source' is not key=value; write for example source.limit=1000"),
        ("name.x=1", "override 'name.x=1': 'x' cannot be set in 'reviews-nightly', which is not a mapping"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_valid_ones(override, expected):
    assert complaint(override).startswith(expected)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("limit=10", "source.limit"),
        ("where=a > 1", "source.where"),
        ("types={n: int32}", "source.types"),
        ("delimiter=;", "source.delimiter"),
        ("workers=2", "runner.workers"),
        ("max_fraction=0.1", "errors.max_fraction"),
        ("on_vanished=keep", "sink.on_vanished"),
        ("cron=1 2 * * *", "schedule.cron"),
        ("event=landed", "trigger.event"),
        ("model=org/other", "tasks.0.model"),
        ("top_k=3", "tasks.0.top_k"),
        ("path=in", "source.path or sink.path or review.path"),
        ("sink.limit=10", "source.limit"),
        ("source.workers=2", "runner.workers"),
        ("source.dtype=int8", "tasks.0.dtype"),
        ("tasks.0.limit=10", "source.limit"),
        ("source.column=text", "columns or tasks.0.column"),
        ("limt=10", "source.limit"),
        ("sink.max_tokns=9", "tasks.0.max_tokens"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_where_it_goes(override, meant):
    key = override.split("=")[0]
    assert complaint(override).startswith(f"job.yaml: {key} is not a key; did you mean {meant}?; keys: ")


def test_the_keys_of_every_task_are_suggested_and_a_task_that_does_not_exist_is_told_later():
    second = {"task": "generate", "prompt": "{text}", "model": "m", "into": "title"}
    content = GOOD | {"tasks": [*GOOD["tasks"], second, {"task": "none", "into": "x"}]}
    with pytest.raises(SpecError, match=r"temperature is not a key; did you mean tasks.1.temperature\?"):
        spec.parse(content | {"temperature": 1.0})
    with pytest.raises(SpecError, match=r"engine is not a key; did you mean tasks.0.engine or tasks.1.engine or"):
        spec.parse(content | {"engine": "onnx"})


def test_a_key_of_a_task_without_its_number_is_told_with_it():
    assert complaint("tasks.dtype=int8").endswith("list of 1; the first is 0, such as tasks.0.dtype")


def test_a_text_in_place_of_a_number_is_reported_without_the_message_of_the_parser():
    assert complaint("source.limit=many").endswith("input should be a valid integer")


@pytest.mark.parametrize("key", ["name", "source", "tasks", "sink"])
def test_a_missing_section_is_named(key):
    assert complaint(drop=key) == f"job.yaml: {key} is missing"


def test_two_tasks_cannot_write_one_column():
    twice = {**GOOD, "tasks": GOOD["tasks"] * 2}
    with pytest.raises(SpecError, match=r"tasks.1.into and tasks.0.into are both 'sentiment'; choose different names"):
        spec.parse(twice)


def test_overrides_are_yaml_and_reach_into_lists(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    parsed = spec.read(file, ["source.limit=1000", "tasks.0.dtype=float32", "sink.path=other", "source.where=null"])
    assert (parsed.source.limit, parsed.tasks[0].dtype, parsed.sink.path, parsed.source.where) == (
        1000,
        "float32",
        "other",
        None,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "is not YAML in line 1"),
        ("- 1", "contains a list; a job file is a mapping with the keys name, source"),
        ("one", "contains one value; a job file is a mapping with the keys name, source"),
        ("", "is empty; a job file is a mapping with the keys name, source"),
        ("a: 1\nb: {c: 1, c: 2}", "is not YAML in line 2: the key 'c' is given twice; remove one of the two"),
        ("{name: a, task: ner, base: {}}", "is a training file, and a job file is needed; `nightscribe train` takes"),
    ],
)
def test_a_file_that_is_no_job_file_is_reported(tmp_path, text, expected):
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(SpecError, match=expected):
        spec.read(tmp_path / "job.yaml")


def test_a_file_that_is_not_utf8_is_reported(tmp_path):
    (tmp_path / "job.yaml").write_bytes(yaml.safe_dump(GOOD).encode("utf-16"))
    with pytest.raises(SpecError, match=r"job.yaml is not UTF-8 text \(byte 0\); a job file is YAML in UTF-8"):
        spec.read(tmp_path / "job.yaml")


def test_a_key_of_a_merged_mapping_may_be_given_again(tmp_path):
    (tmp_path / "job.yaml").write_text("tasks: [&a {task: noop, into: x}, {<<: *a, into: y}]")
    loaded = load(tmp_path / "job.yaml", [], "job file", ["tasks"], "")
    assert [task["into"] for task in loaded["tasks"]] == ["x", "y"]


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        spec.read(tmp_path / "none.yaml")
