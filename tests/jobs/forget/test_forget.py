"""A person's rows are erased from everything that a job and a training keep, and both go on afterwards."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.forget import erase
from jobs.gate import decision
from jobs.registry import Registry
from jobs.report import history, web
from jobs.retraining import round as rounds
from jobs.retraining import state
from jobs.review import columns, labels
from jobs.store import Store, lease
from jobs.training import identity, spec
from tests import lake, s3
from tests.jobs.registry import versions
from tests.jobs.training import made

pytestmark = pytest.mark.usefixtures("settings_of_the_process")

ADA = "author = 'ada'"
# A word in every text of the person and in no other.
WORD = "zanzibar"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rows(n, seed, ada=0):
    """Labelled rows with authors; the texts of the first `ada` of them are ada's."""
    table = made.labelled(n, seed=seed)
    texts = [f"{WORD} {text}" if i < ada else text for i, text in enumerate(table["text"].to_pylist())]
    authors = ["ada" if i < ada else f"author {i % 7}" for i in range(n)]
    return pa.table({"text": texts, "label": table["label"], "author": authors})


def job(folder, model, **task):
    """A job that rejects rows whose number of stars is no number, and draws a third of the others for review."""
    base = {"task": "classify", "column": "text", "model": str(model), "into": "found", "dtype": "float32"}
    return {
        "name": "nightly",
        "source": {"path": str(folder / "in"), "where": "CAST(stars AS INTEGER) >= 0"},
        "tasks": [base | task],
        "sink": {"path": str(folder / "out")},
        "review": {"rows": 60, "path": str(folder / "review")},
        "errors": {"max_fraction": 0.5},
    }


def day(folder, number, ada=20, n=60):
    """New rows at the source; one of ada's and one of another author's cannot be enriched, as their messages say."""
    (folder / "in").mkdir(exist_ok=True)
    table = rows(n, 100 + number, ada).drop_columns(["label"])
    stars = [WORD if i == 0 and ada else "many" if i in (0, n - 1) else str(i % 5) for i in range(n)]
    pq.write_table(table.append_column("stars", pa.array(stars)), folder / "in" / f"{number}.parquet")


def night(folder, content):
    """Run the job, with its report as a page as the flow writes it, and label what was drawn."""
    report = lake.execute(content)
    store, review = Store(content["sink"]["path"]), content["review"]["path"]
    page = web.web(history.read(store, report.run_id), [])
    store.put(f"{history.FOLDER}/{report.run_id}.html", page.encode())
    drawn = pq.read_table(Store(review).open(columns.draw_file("nightly", report.run_id)))
    pq.write_table(pa.table({columns.KEY: drawn[columns.KEY], "label": ["good"] * len(drawn)}), folder / "answers.pq")
    labels.take(review, [str(folder / "answers.pq")])
    (folder / "answers.pq").unlink()
    return report


def command(*arguments):
    return cli.main(["forget", *map(str, arguments)])


def files(folder, content, training=None):
    """The job file, and the training file if there is one, as arguments of the command."""
    found = ["--job", lake.write_job(folder, content)]
    if training is not None:
        (folder / "training.yaml").write_text(json.dumps(training))
        found += ["--training", folder / "training.yaml"]
    return found


def holding(folder, words):
    """Files below a folder that hold one of some words, tables decoded; enriched rows and the source not."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if name.startswith("in/") or file in lake.parts(folder / "out"):
            continue
        content = file.read_bytes()
        if content.startswith(b"PAR1"):
            with pq.ParquetFile(file) as table:
                content += json.dumps(table.read().to_pylist(), default=str, ensure_ascii=False).encode()
        found += [name for word in words if word.encode() in content or word.encode() in file.name.encode()]
    return found


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def training(folder, base):
    return {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(base)},
        "data": {
            "train": {"path": str(folder / "labels")},
            "review": str(folder / "review"),
            "holdout": {"path": str(folder / "holdout")},
        },
        "training": {"num_train_epochs": 4, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "registry": str(folder / "registry"),
        "gate": {"metric": "accuracy", "floor": 0.1, "confidence": 0.8},
    }


def test_nothing_of_a_person_is_left_and_the_next_run_training_and_verification_work(tmp_path, models, capsys):
    for name in ("labels", "holdout"):
        (tmp_path / name).mkdir()
    pq.write_table(rows(120, 2, ada=4), tmp_path / "holdout" / "1.parquet")
    pq.write_table(rows(24, 1, ada=2), tmp_path / "labels" / "1.parquet")
    content = training(tmp_path, models / "sentiment")
    registry = Registry(str(tmp_path / "registry"))
    first = versions.add(registry, models / "sentiment", tmp_path / "made", seed=1)
    registry.promote(first, "eve", "the first one")
    pq.write_table(rows(200, 3, ada=5), tmp_path / "labels" / "2.parquet")
    second = rounds.run(spec.parse(content))
    assert second.decision == "promoted", second.reason
    text = pq.read_table(tmp_path / "holdout" / "1.parquet")["text"][0].as_py()
    registry.store.put(
        "reports/made.md", f"| {WORD[:4]} | text |\n|---|---|\n| a | {text[:30]}… |\n| b | c |\n".encode()
    )

    day(tmp_path, 1)
    nightly = job(tmp_path, models / "sentiment", adapter=f"{tmp_path / 'registry'}@champion")
    report = night(tmp_path, nightly)
    assert report.rows_rejected == 2
    (draw,) = (tmp_path / "review" / "draws" / "nightly").glob("*.parquet")
    drawn = pq.read_table(draw)
    texts = [f"{text}" for file in tmp_path.glob("*/*.parquet") for text in pq.read_table(file)["text"].to_pylist()]
    keys = {identity.key(text) for text in texts if WORD in text}
    assert len(holding(tmp_path, [WORD])) > 12
    arguments = ["--where", ADA, *files(tmp_path, nightly, content)]
    before = contents(tmp_path)
    assert command(*arguments, "--dry-run") == 0
    planned = last_line(capsys)
    assert contents(tmp_path) == before
    assert command(*arguments) == 0
    told = last_line(capsys)
    assert planned == told | {"dry_run": True}
    assert told["keys"] == len(keys)
    drawn_ada = drawn["author"].to_pylist().count("ada")
    out, review, kept = (str(tmp_path / name) for name in ("out", "review", "registry"))
    rows_by_place = {place: told["places"][place] for place in sorted(told["places"])}
    assert rows_by_place == {
        "data.holdout of sentiment": 4,
        "data.train of sentiment": 7,
        f"{out}: rejected rows": 1,
        f"{out}: rows that reports show": rows_by_place[f"{out}: rows that reports show"],
        f"{kept}: keys in receipts": rows_by_place[f"{kept}: keys in receipts"],
        f"{kept}: rows of the holdout": 4,
        f"{kept}: rows of trainings": rows_by_place[f"{kept}: rows of trainings"],
        f"{kept}: rows that reports show": rows_by_place[f"{kept}: rows that reports show"],
        f"{review}: drawn rows": drawn_ada,
        f"{review}: exports and answers": 4 * drawn_ada,
        f"{review}: labelled rows": drawn_ada,
    }
    assert any(f"{second.version} learnt from these rows" in sentence for sentence in told["left"])
    assert any(f"{first} may have learnt from these rows" in sentence for sentence in told["left"])
    assert any(sentence.startswith("the sink keeps 19 enriched rows of the person") for sentence in told["left"])

    assert holding(tmp_path, [WORD, *keys]) == [], "also in the pages of reports"
    assert registry.store.get("reports/made.md").decode().endswith("---|\n| b | c |\n")
    assert set(lake.rejected(tmp_path / "out")["author"].to_pylist()) == {"author 3"}
    assert list((tmp_path / "out").rglob("*.html"))
    failures = json.loads(next((tmp_path / "out").rglob("reports/*.json")).read_text())["findings"]["failures"]
    assert len(failures) == 1
    assert [move.receipt and decision.verify(move.receipt) for move in registry.history()] == [None, []]
    assert registry.champion().receipt["forgotten"][0]["rows"] == 4
    assert cli.main(["adapters", "verify", str(tmp_path / "registry")]) == 0
    capsys.readouterr()
    assert command(*arguments) == 0
    assert capsys.readouterr().out.startswith("Nothing was found")

    source = tmp_path / "in" / "1.parquet"
    table = pq.read_table(source)
    pq.write_table(table.filter(pa.compute.not_equal(table["author"], "ada")), source)
    again = lake.execute(nightly)
    assert (again.rows_out, again.rows_rejected) == (39, 1)
    assert "ada" not in lake.parts(tmp_path / "out")[0].read_bytes().decode("latin1").split("author")
    assert WORD not in str(pq.read_table(lake.parts(tmp_path / "out")[0]).to_pylist())
    third = rounds.run(spec.parse(content))
    assert third.version not in (None, second.version)
    assert third.rows_holdout == 116


def test_a_run_after_it_does_nothing_again_and_complains_about_nothing(tmp_path, models):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    first = night(tmp_path, content)
    parts = lake.contents(tmp_path / "out")
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    assert len(lake.rejected(tmp_path / "out")) == 1
    day(tmp_path, 2, ada=0)
    second = lake.execute(content)
    assert (second.rows_in, second.rows_rejected, second.shards_skipped) == (60, 2, 1)
    assert first.rows_rejected == 2
    assert {name: parts[name] for name in parts if name.endswith("parquet")}.items() <= lake.contents(
        tmp_path / "out"
    ).items()


def test_a_text_that_somebody_else_wrote_too_stays_theirs(tmp_path, models, capsys):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    night(tmp_path, content)
    text = f"{WORD} is what both of them wrote"
    shared = pa.table({"text": [text, text.upper(), "other"], "label": ["good"] * 3, "author": ["ada", "bob", None]})
    by_key = pa.table({"text": [f"{WORD} by key", "other"], "label": ["good"] * 2})
    named = pa.table({"text": [f"{WORD}, BY KEY!"], "label": ["good"], "author": ["ada"]})
    (tmp_path / "labels").mkdir()
    for name, table in {"shared": shared, "by_key": by_key, "named": named}.items():
        pq.write_table(table, tmp_path / "labels" / f"{name}.parquet")
    file = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    assert command("--where", ADA, *files(tmp_path, content, file)) == 0
    assert last_line(capsys)["places"]["data.train of sentiment"] == 3
    left = {path.stem: pq.read_table(path)["text"].to_pylist() for path in (tmp_path / "labels").iterdir()}
    assert left == {"shared": [text.upper(), "other"], "by_key": ["other"], "named": []}


def test_rows_that_reports_show_can_all_be_erased_once_nobody_can_tell_whose_they_are(tmp_path, models, capsys):
    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    night(tmp_path, content)
    day(tmp_path, 1, ada=0)
    lake.execute(content)
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    reports = sorted((tmp_path / "out" / "_nightscribe" / "reports").iterdir())
    capsys.readouterr()
    assert command("--where", ADA, "--all-examples", *files(tmp_path, content)) == 0
    assert sorted((tmp_path / "out" / "_nightscribe" / "reports").iterdir()) == reports
    assert holding(tmp_path, [WORD]) == []


def test_a_staged_draw_is_searched_too(tmp_path, models, monkeypatch):
    from jobs.review import night as nights

    day(tmp_path, 1)
    content = job(tmp_path, models / "sentiment")
    with monkeypatch.context() as patch:
        patch.setattr(nights, "publish", lambda plan, sink: 0)
        lake.execute(content)
    assert any("review" in name for name in holding(tmp_path, [WORD]))
    assert command("--where", ADA, *files(tmp_path, content)) == 0
    assert holding(tmp_path, [WORD]) == []
    lake.execute(content)
    (draw,) = (tmp_path / "review" / "draws" / "nightly").glob("*.parquet")
    assert len(pq.read_table(draw)), "it is published without the rows"


def test_labelled_files_that_are_not_parquet_are_named(tmp_path, models, capsys):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.csv").write_text(f"text,label,author\n{WORD} one,good,ada\ntwo,bad,bob\n")
    pq.write_table(pa.table({"text": [f"{WORD} one"], "label": ["good"]}), tmp_path / "labels" / "2.parquet")
    content = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    (tmp_path / "training.yaml").write_text(json.dumps(content))
    assert command("--where", ADA, "--training", tmp_path / "training.yaml") == 1
    said = capsys.readouterr()
    assert "delete the rows of the person yourself in" in said.err
    assert "1.csv (1)" in said.err
    assert WORD in (tmp_path / "labels" / "1.csv").read_text()
    assert len(pq.read_table(tmp_path / "labels" / "2.parquet")) == 0


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("auther = 'ada'", "column 'auther' is not in the source"),
        ("author =", "syntax error"),
        ("", "--where is empty"),
        ("true", "names no column"),
        ("author > 5 AND count(*) > 1", "computed over many rows"),
    ],
)
def test_a_wrong_condition_is_one_sentence_and_erases_nothing(lake_of_ada, capsys, where, complaint):
    folder, content = lake_of_ada
    before = contents(folder)
    assert command("--where", where, *files(folder, content)) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    after = contents(folder)
    assert {name: after[name] for name in before if "lock" not in name} == {
        n: before[n] for n in before if "lock" not in n
    }


@pytest.fixture(scope="module")
def lake_of_ada(tmp_path_factory, models):
    """A lake that no test changes."""
    folder = tmp_path_factory.mktemp("ada")
    day(folder, 1)
    content = job(folder, models / "sentiment")
    night(folder, content)
    lake.write_job(folder, content)
    return folder, content


def test_a_sink_that_is_held_by_a_run_is_one_sentence(lake_of_ada, capsys):
    folder, content = lake_of_ada
    with lease.hold(Store(content["sink"]["path"])):
        assert command("--where", ADA, *files(folder, content)) == 1
    assert "is being written by process" in capsys.readouterr().err


def test_a_job_that_never_ran_and_no_file_at_all_are_refused(lake_of_ada, capsys):
    folder, content = lake_of_ada
    assert command("--where", ADA) == 2
    assert "give --job FILE, --training FILE" in capsys.readouterr().err
    file = lake.write_job(folder, content | {"sink": {"path": str(folder / "nowhere")}})
    assert command("--where", ADA, "--job", file) == 2
    assert "is no sink" in capsys.readouterr().err


def test_an_altered_receipt_stays_recognisable(tmp_path, models):
    registry = Registry(str(tmp_path / "registry"))
    key = identity.key(WORD)
    receipt = decision.sealed({"format": 2, "ring": {"spent": [key]}, "reason": "better"})
    state.keep_decision(registry, "right", receipt)
    state.keep_decision(registry, "altered", receipt | {"reason": "worse"})
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.table({"text": [WORD], "author": ["ada"], "label": ["good"]}), tmp_path / "labels" / "1.parquet")
    content = training(tmp_path, models / "sentiment") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    (tmp_path / "training.yaml").write_text(json.dumps(content))
    assert command("--where", ADA, "--training", tmp_path / "training.yaml") == 0
    found = {name: json.loads(registry.store.get(f"gate/decisions/{name}.json")) for name in ("right", "altered")}
    assert {name: decision.is_sealed(each) for name, each in found.items()} == {"right": True, "altered": False}
    assert all(each["ring"]["spent"][0].startswith("forgotten-") for each in found.values())


def test_a_lake_on_an_object_store_is_searched_and_written_again(tmp_path, models, capsys):
    with s3.server():
        store = Store("s3://lake/forget")
        day(tmp_path, 1)
        content = job(tmp_path, models / "sentiment")
        content |= {"sink": {"path": "s3://lake/forget/out"}}
        content["review"] |= {"path": "s3://lake/forget/review"}
        night(tmp_path, content)
        buffer = pa.BufferOutputStream()
        pq.write_table(rows(9, 1, ada=3), buffer)
        store.put("labels/1.parquet", buffer.getvalue().to_pybytes())
        file = training(tmp_path, models / "sentiment")
        file |= {"data": {"train": {"path": "s3://lake/forget/labels"}}, "registry": "s3://lake/forget/registry"}
        assert command("--where", ADA, *files(tmp_path, content, file)) == 0
        told = last_line(capsys)
        assert told["places"]["data.train of sentiment"] == 3
        assert pq.read_table(store.open("labels/1.parquet")).num_rows == 6
        for name in store.find((".json", ".jsonl", ".html")):
            assert WORD.encode() not in store.get(name)
        for name in store.find((".parquet", ".rejected")):
            if name.startswith(("review/", "labels/", "out/_")) and "scores" not in name:
                assert "ada" not in pq.read_table(store.open(name))["author"].to_pylist()


@pytest.mark.parametrize("made_before", [1, 3, 6])
def test_a_command_that_was_killed_can_be_run_again(lake_of_ada, tmp_path, monkeypatch, capsys, made_before):
    folder, content = lake_of_ada
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    content = json.loads(json.dumps(content).replace(str(folder), str(tmp_path)))
    (tmp_path / "labels").mkdir()
    for name, columns_ in (("named", ["text", "author", "label"]), ("by_key", ["text", "label"])):
        pq.write_table(rows(9, 1, ada=3).select(columns_), tmp_path / "labels" / f"{name}.parquet")
    file = training(tmp_path, "base") | {"data": {"train": {"path": str(tmp_path / "labels")}}}
    arguments = ["--where", ADA, *files(tmp_path, content, file)]
    prepared = erase._changes

    def killed():
        raise KeyboardInterrupt

    def stopping(*given):
        """The changes, of which one ends the process."""
        found = list(prepared(*given))
        return [*found[:made_before], replace(found[made_before], make=killed), *found[made_before + 1 :]]

    with monkeypatch.context() as patch:
        patch.setattr(erase, "_changes", stopping)
        assert command(*arguments) == 1
    assert holding(tmp_path, [WORD])
    assert command(*arguments) == 0
    assert holding(tmp_path, [WORD]) == []
