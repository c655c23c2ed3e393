"""Rows that a changed, renamed, joined or split file still has are not computed again, and no row differs for it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import lake
from tests.lake import execute


def table(*texts, start=0, **more):
    ids = [f"r{start + i}" for i in range(len(texts))]
    return pa.table({"id": ids, "text": pa.array(texts, pa.string()), **more})


def write(folder, name, content, **more):
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, target, **more)


@pytest.fixture
def content(tmp_path, shout):
    """A job with one task that reads `text`."""
    return {
        "name": "test",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": shout.task, "column": "text", "into": "loud"}],
        "sink": {"path": str(tmp_path / "out"), "on_vanished": "remove", "allow_fewer_rows": True},
        "errors": {"max_fraction": 1.0},
    }


@pytest.fixture
def night(tmp_path, shout, content):
    """Run the job, compare its rows with those of a run into an empty sink; (report, what was computed, rows)."""
    fresh = iter(range(100))

    def run():
        report = execute(content)
        computed = shout.taken()
        out = lake.read(tmp_path / "out")
        clean = content | {"sink": {"path": str(tmp_path / f"fresh-{next(fresh)}")}}
        execute(clean)
        shout.taken()
        expected = lake.read(tmp_path / clean["sink"]["path"])
        assert out.schema.equals(expected.schema)
        assert out.equals(expected)
        assert not list((tmp_path / "out" / "_nightscribe" / "tmp").iterdir())
        return report, computed, out

    return run


def test_a_full_dump_computes_its_changed_and_new_rows_only(tmp_path, night):
    old = [f"text {i}" for i in range(300)]
    write(tmp_path / "in", "dump.parquet", table(*old), row_group_size=70)
    report, computed, _ = night()
    assert (len(computed), report.rows_reused) == (300, 0)
    # Another order, rows deleted, one changed, two new.
    new = [*reversed(old[20:]), "new", "newer"]
    new[5] = "changed"
    write(tmp_path / "in", "dump.parquet", table(*new), row_group_size=50)
    report, computed, rows = night()
    assert computed == ["changed", "new", "newer"]
    assert (report.rows_in, report.rows_reused, report.tokens) == (282, 279, 3)
    assert rows["loud"].to_pylist() == [text.upper() for text in rows["text"].to_pylist()]


def test_null_and_empty_texts_and_repeated_rows_keep_their_results(tmp_path, night):
    write(tmp_path / "in", "dump.parquet", table("a", None, "", "a", "b", None))
    night()
    write(tmp_path / "in", "dump.parquet", table("b", "", None, "a", "a", "None", "a"))
    report, computed, _ = night()
    assert (computed, report.rows_reused) == (["None"], 6)


def test_files_that_are_joined_split_or_renamed_are_not_computed_and_load_nothing(tmp_path, shout, night, content):
    source = tmp_path / "in"
    for i in range(3):
        write(source, f"day={i}/part.parquet", table(f"x{i}", f"y{i}", start=2 * i))
    night()
    for path in source.rglob("*.parquet"):
        path.unlink()
    whole = table("x2", "y2", "x0", "y0", "x1", "y1")
    write(source, "whole.parquet", whole)
    shout.loaded()
    report = execute(content)
    assert (report.rows_reused, report.tokens, report.rows_out, shout.loaded()) == (6, 0, 6, [])
    (source / "whole.parquet").rename(source / "renamed.parquet")
    assert (execute(content).rows_reused, shout.loaded()) == (6, [])
    (source / "renamed.parquet").unlink()
    for i in range(2):
        write(source, f"piece-{i}.parquet", whole.slice(3 * i, 3))
    assert (execute(content).rows_reused, shout.loaded()) == (6, [])
    assert night()[2]["text"].to_pylist() == ["x2", "y2", "x0", "y0", "x1", "y1"]


def test_rows_that_stay_in_the_sink_when_their_file_is_gone_serve_too(tmp_path, shout, content):
    content["sink"]["on_vanished"] = "keep"
    write(tmp_path / "in", "a.parquet", table("x", "y"))
    execute(content)
    (tmp_path / "in" / "a.parquet").rename(tmp_path / "in" / "b.parquet")
    shout.taken()
    report = execute(content)
    assert (report.rows_reused, shout.taken(), report.rows_vanished) == (2, [], 2)


def test_each_task_computes_the_rows_of_which_its_own_columns_changed(tmp_path, shout, night, content):
    content["tasks"].append({"task": shout.task, "column": "title", "other": "text", "into": "both"})
    content["tasks"].append({"task": shout.task, "column": "title", "mark": ">", "into": "titles"})
    write(tmp_path / "in", "dump.parquet", table("a", "b", "c", title=["t", "u", "v"]))
    night()
    write(tmp_path / "in", "dump.parquet", table("a", "B", "c", title=["t", "u", "V"], more=[1, 2, 3]))
    report, computed, _ = night()
    assert computed == sorted(["B", "u+B", "V+c", "V"])
    assert report.rows_reused == 3


def test_a_task_that_reads_from_another_task_depends_on_what_that_one_reads(tmp_path, shout, night, content):
    content["tasks"].append({"task": shout.task, "column": "loud", "mark": "!", "into": "louder"})
    write(tmp_path / "in", "dump.parquet", table("a", "b", "c"))
    night()
    write(tmp_path / "in", "dump.parquet", table("c", "a", "d"))
    report, computed, rows = night()
    assert (computed, report.rows_reused) == (["D", "d"], 2)
    assert rows["louder"].to_pylist() == ["!C", "!A", "!D"]
    content["tasks"][0]["mark"] = "#"
    assert len(night()[1]) == 6


def test_a_row_of_which_one_task_fails_is_rejected_again_and_computed_again(tmp_path, shout, night, content):
    content["tasks"].append({"task": shout.task, "column": "title", "mark": ">", "into": "titles"})
    shout.refuse("bad")
    write(tmp_path / "in", "dump.parquet", table("a", "bad", "c", "d", title=["t", "u", "v", "w"]))
    report, _, _ = night()
    assert (report.rows_out, report.rows_rejected) == (3, 1)
    write(tmp_path / "in", "dump.parquet", table("d", "bad", "c", "a", title=["w", "bad", "x", "bad"]))
    report, computed, rows = night()
    assert (rows["text"].to_pylist(), report.rows_rejected, report.rows_reused) == (["d", "c"], 2, 2)
    assert computed == ["x"]
    assert sorted(lake.rejected(tmp_path / "out")["text"].to_pylist()) == ["a", "bad"]


def test_another_condition_computes_the_rows_that_it_adds(tmp_path, night, content):
    write(tmp_path / "in", "dump.parquet", table(*"abcdef", stars=range(6)))
    content["source"]["where"] = "stars < 4"
    night()
    content["source"]["where"] = "stars > 1"
    report, computed, _ = night()
    assert (computed, report.rows_reused, report.rows_out) == (["e", "f"], 2, 4)


def test_a_function_that_changes_rows_computes_those_that_it_changed(tmp_path, monkeypatch, night, content):
    (tmp_path / "prepared.py").write_text(
        "import pyarrow.compute as pc\n\n\ndef cut(batch):\n"
        "    text = pc.utf8_slice_codeunits(batch['text'], 0, 3)\n"
        "    return batch.set_column(batch.schema.get_field_index('text'), 'text', text)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "in", "lang=de/dump.parquet", table("one", "twofold", "three"))
    night()
    content["source"]["prepare"] = "prepared:cut"
    report, computed, _ = night()
    assert (computed, report.rows_reused) == (["thr", "two"], 1)


def test_the_value_of_a_folder_belongs_to_the_row_of_a_task_that_reads_it(tmp_path, shout, night, content):
    content["tasks"] = [{"task": shout.task, "column": "text", "other": "lang", "into": "loud"}]
    write(tmp_path / "in", "lang=de/a.parquet", table("x", "y"))
    write(tmp_path / "in", "lang=en/a.parquet", table("x", "z", start=2))
    night()
    (tmp_path / "in" / "lang=de" / "a.parquet").rename(tmp_path / "in" / "lang=de" / "b.parquet")
    (tmp_path / "in" / "lang=en" / "a.parquet").unlink()
    write(tmp_path / "in", "lang=en/b.parquet", table("x", "y", start=2))
    report, computed, rows = night()
    assert (computed, report.rows_reused) == (["y+en"], 3)
    assert rows["loud"].to_pylist() == ["X+DE", "Y+DE", "X+EN", "Y+EN"]


def test_without_reuse_of_rows_a_changed_file_is_computed_whole(tmp_path, night, content):
    content["sink"]["reuse"] = "files"
    write(tmp_path / "in", "dump.parquet", table("a", "b"))
    night()
    write(tmp_path / "in", "dump.parquet", table("b", "a"))
    report, computed, _ = night()
    assert (computed, report.rows_reused) == (["a", "b"], 0)


def test_a_part_file_that_is_gone_is_computed(tmp_path, shout, content):
    for name in "ab":
        write(tmp_path / "in", f"{name}.parquet", table(f"{name}1", f"{name}2"))
    execute(content)
    shout.taken()
    for name in "ab":
        write(tmp_path / "in", f"{name}.parquet", table(f"{name}2", f"{name}3"))
    from jobs import run, spec

    with run.holding(run.prepare(spec.parse(content))) as held:
        next((tmp_path / "out").glob("a-*.parquet")).unlink()
        run.execute(held)
        report = run.finish(held)
    assert (shout.taken(), report.rows_reused) == (["a2", "a3", "b3"], 1)


def test_old_files_that_are_gone_are_looked_at_in_proportion_to_the_rows_to_do(tmp_path, shout, content, monkeypatch):
    from jobs import run, spec
    from jobs.reuse import donors

    monkeypatch.setattr(donors, "ROWS_PER_ROW", 2)
    content["sink"]["on_vanished"] = "keep"
    for day in range(4):
        write(tmp_path / "in", f"{day}.parquet", table(f"{day}a", f"{day}b"))
        execute(content)
        (tmp_path / "in" / f"{day}.parquet").unlink()
    write(tmp_path / "in", "new.parquet", table("new", "newer"))
    assert len(run.prepare(spec.parse(content)).donors) == 2
