"""Jobs whose rows name their adapters: a registry and folders, rejected rows, later nights, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import spec
from jobs.plan import Plan, planning
from jobs.plan.text import text
from jobs.registry import Registry, used
from jobs.report import history, page
from jobs.store import Store
from tests import lake, tiny
from tests.jobs.registry import versions
from tests.tiny_adapters import lora
from transforms.errors import ModelError, SpecError, UserError

pytestmark = pytest.mark.usefixtures("cache")
ROWS = 60
CUSTOMERS = ["acme", "globex", "initech", "nobody", None]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def globex(models, tmp_path_factory):
    """An adapter with two labels of its own."""
    return lora(models / "sentiment", tmp_path_factory.mktemp("adapters") / "globex", 7, labels=["yes", "no"])


@pytest.fixture
def registry(tmp_path):
    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def job(models, globex, registry, tmp_path):
    """A job over two files; the first has only customers that have an adapter."""
    folder = tmp_path / "in"
    folder.mkdir()
    texts = [words if words.strip() else "x" for words in tiny.texts(2 * ROWS)]
    for name, customers, start in (("a", CUSTOMERS[:2], 0), ("b", CUSTOMERS, ROWS)):
        rows = range(start, start + ROWS)
        table = pa.table(
            {
                "id": [f"r{i:03}" for i in rows],
                "text": [texts[i] for i in rows],
                "customer": [customers[i % len(customers)] for i in rows],
            }
        )
        pq.write_table(table, folder / f"{name}.parquet")

    def make(adapters=None, **task):
        content = lake.job(folder, tmp_path / "out", models, errors={"max_fraction": 0.9})
        named = {"acme": f"{registry.url}@champion", "globex": str(globex)} if adapters is None else adapters
        content["tasks"][0] |= {"adapter_column": "customer", "adapters": named} | task
        return content

    return make


def alone(content, adapter, tmp_path):
    """What a job with one adapter for all rows gives, by id."""
    content = json.loads(json.dumps(content))
    task = content["tasks"][0]
    del task["adapter_column"], task["adapters"]
    content["tasks"][0] = task | ({"adapter": adapter} if adapter else {})
    content["sink"] = {"path": str(tmp_path / f"alone-{abs(hash(adapter))}")}
    lake.execute(content)
    table = lake.read(tmp_path / f"alone-{abs(hash(adapter))}")
    return dict(zip(table["id"].to_pylist(), table["sentiment"].to_pylist(), strict=True))


def copies(adapter, folder, count):
    """Adapters of the same structure with other weights and labels."""
    for i in range(count):
        copied = shutil.copytree(adapter, folder / f"c{i}")
        torch.manual_seed(i)
        file = copied / "adapter_model.safetensors"
        save_file({name: 0.3 * torch.randn_like(tensor) for name, tensor in load_file(file).items()}, file)
        config = json.loads((copied / "config.json").read_text())
        labels = {0: f"no {i}", 1: f"yes {i}"}
        (copied / "config.json").write_text(json.dumps(config | {"id2label": labels, "label2id": {}}))
        yield copied


def by_id(sink):
    table = lake.read(sink)
    return {row["id"]: (row["customer"], row["sentiment"]) for row in table.to_pylist()}


def test_each_row_gets_what_a_job_with_its_adapter_gives_and_a_row_without_one_is_rejected(
    job, models, registry, globex, tmp_path
):
    registry.promote(versions.add(registry, models / "sentiment", tmp_path, 1), "gate", "first")
    content = job()
    report = lake.execute(content)
    found = by_id(tmp_path / "out")
    wanted = {
        "acme": alone(content, f"{registry.url}@champion", tmp_path),
        "globex": alone(content, str(globex), tmp_path),
    }
    assert Counter(customer for customer, _ in found.values()) == {"acme": 42, "globex": 42}
    for id_, (customer, value) in found.items():
        want = wanted[customer][id_]
        assert value["label"] == want["label"]
        assert value["score"] == pytest.approx(want["score"], abs=1e-4)
    assert {value["label"] for customer, value in found.values() if customer == "globex"} <= {"yes", "no"}
    rejected = lake.rejected(tmp_path / "out").to_pylist()
    assert report.rows_rejected == len(rejected) == 36
    assert Counter(row["customer"] for row in rejected) == {"initech": 12, "nobody": 12, None: 12}
    messages = {row["customer"]: json.dumps(row, default=str) for row in rejected}
    assert "customer is 'nobody', which has no adapter; adapters: acme, globex; add the key" in messages["nobody"]
    assert "customer is null, which has no adapter" in messages[None]


def test_default_is_for_rows_whose_name_is_unknown_or_null_and_base_is_the_model_alone(job, globex, tmp_path):
    content = job({"globex": str(globex), "default": "base"})
    report = lake.execute(content)
    assert (report.rows_rejected, report.rows_out) == (0, 2 * ROWS)
    base = alone(content, None, tmp_path)
    found = by_id(tmp_path / "out")
    assert all(value["label"] == base[id_]["label"] for id_, (name, value) in found.items() if name != "globex")
    assert {value["label"] for name, value in found.values() if name == "globex"} <= {"yes", "no"}


def test_a_later_night_does_nothing_until_a_champion_moves(job, models, registry, tmp_path):
    one, two = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    assert lake.execute(job()).rows_in == 2 * ROWS
    before = by_id(tmp_path / "out")
    again = lake.execute(job())
    assert (again.rows_in, again.shards_skipped) == (0, 2)
    registry.promote(two, "gate", "better")
    lake.execute(job())
    after = by_id(tmp_path / "out")
    changed = Counter(after[id_][0] for id_ in after if after[id_][1] != before[id_][1])
    assert set(changed) == {"acme"}
    assert changed["acme"] > 20
    assert [bool(used.runs_with(Store(str(tmp_path / "out")), registry.version(name))) for name in (one, two)] == [
        True,
        True,
    ]


def test_sixty_adapters_are_a_line_in_the_plan_and_the_report(job, globex, tmp_path):
    adapters = {f"c{i}": str(folder) for i, folder in enumerate(copies(globex, tmp_path, 60))}
    folder = tmp_path / "in"
    for file in folder.iterdir():
        table = pq.read_table(file)
        names = [f"c{int(id_[1:]) % 60}" for id_ in table["id"].to_pylist()]
        pq.write_table(table.set_column(2, "customer", pa.array(names)), file)
    content = job(adapters)
    plan = planning.make(spec.parse(content))
    assert Plan.from_json(plan.to_json()).tasks[0].adapters == plan.tasks[0].adapters
    line = next(line for line in text(plan).splitlines() if "60 adapters by customer" in line)
    assert "c0: " in line
    assert "57 more" in line
    assert len(line) < 600
    report = lake.execute(content)
    assert (report.rows_in, report.rows_rejected) == (2 * ROWS, 0)
    for customer, value in by_id(tmp_path / "out").values():
        assert value["label"] in (f"no {customer[1:]}", f"yes {customer[1:]}")
    shown = page.markdown(history.read(Store(str(tmp_path / "out")), "latest"), [])
    assert "60 adapters by customer" in shown
    # Pictures in base64 may have these three characters, but no colon.
    assert "c0: " in shown
    assert "c20: " not in shown


def test_names_may_be_numbers_and_columns_of_earlier_tasks(job, models, globex, tmp_path):
    for file in (tmp_path / "in").iterdir():
        table = pq.read_table(file)
        numbers = pa.array([int(id_[1:]) % 2 for id_ in table["id"].to_pylist()], pa.int16())
        pq.write_table(table.append_column("shop", numbers), file)
    content = job({0: "base", 1: str(globex)}, adapter_column="shop", into="first")
    second = {"task": "classify", "column": "text", "model": str(models / "sentiment"), "into": "second"}
    labels = {"positive": str(globex), "default": "base"}
    content["tasks"].append(second | {"adapter_column": "first.label", "adapters": labels})
    assert lake.execute(content).rows_rejected == 0
    for row in lake.read(tmp_path / "out").to_pylist():
        assert (row["first"]["label"] in ("yes", "no")) == (row["shop"] == 1)
        assert (row["second"]["label"] in ("yes", "no")) == (row["first"]["label"] == "positive")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"adapters": None}, "adapter_column needs adapters"),
        ({"adapter_column": None}, "adapters needs adapter_column"),
        ({"adapter": "x"}, "adapter and adapters cannot both be given"),
        ({"adapters": {}}, "tasks.0.adapters: no adapter is named; give at least one"),
        (
            {"adapters": {"acme": None}},
            "tasks.0.adapters: acme has no adapter; write acme: base for the model",
        ),
        ({"engine": "onnx"}, "engine onnx computes all rows with one adapter"),
        ({"adapter_column": "custmer"}, "column 'custmer' is not in the source; columns: id, text, customer"),
        ({"adapters": {"acme": "./nowhere"}}, "tasks.0.adapters.acme './nowhere' is not a folder"),
    ],
)
def test_what_a_job_file_says_wrongly_is_one_sentence(job, task, message):
    with pytest.raises(UserError) as caught:
        planning.make(spec.parse(job({"acme": "base"}) | {"tasks": [job({"acme": "base"})["tasks"][0] | task]}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"use_dora": True}, "has DoRA, and adapters by row must be plain LoRA"),
        ({"bias": "all"}, r"has trained biases \(bias: all\)"),
        ({"init_lora_weights": "pissa"}, r"has a base of its own \(init_lora_weights: pissa\)"),
    ],
)
def test_an_adapter_that_is_no_plain_lora_is_refused_when_a_run_is_planned(job, models, tmp_path, more, message):
    odd = lora(models / "sentiment", tmp_path / "odd", 3)
    config = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps(config | more))
    with pytest.raises(ModelError, match=rf"tasks\.0: adapters\.acme: adapter '.*odd' {message}"):
        planning.make(spec.parse(job({"acme": str(odd)})))


def test_adapters_of_another_base_or_another_type_of_column_are_refused(job, models, globex, tmp_path):
    other = lora(models / "topics", tmp_path / "other", 3)
    with pytest.raises(ModelError, match=r"tasks\.0: adapters\.acme: adapter '.*other' was trained on '.*topics'"):
        planning.make(spec.parse(job({"globex": str(globex), "acme": str(other)})))
    several = lora(models / "sentiment", tmp_path / "several", 3, labels=["a", "b"])
    config = json.loads((several / "config.json").read_text())
    (several / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    with pytest.raises(SpecError, match=r"adapters\.acme gives list<.* and adapters\.globex gives struct<"):
        planning.make(spec.parse(job({"globex": str(globex), "acme": str(several)})))
