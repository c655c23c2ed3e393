"""A prepare function may change columns and rows; what fails in it is one sentence with file and rows."""

import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source import prepare
from jobs.spec import SourceSpec
from transforms.errors import SourceError, SpecError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module with these lines; its name is given."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(body: str) -> str:
        name = f"prepare_module_{tmp_path.name}_{len(names)}"
        (tmp_path / f"{name}.py").write_text("import pyarrow as pa\n" + textwrap.dedent(body))
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def rows(tmp_path, function: str, batch_rows: int = 10, **more) -> list[dict]:
    if not (tmp_path / "in").exists():
        (tmp_path / "in").mkdir()
        words = [f"word {i}" for i in range(100)]
        pq.write_table(pa.table({"nr": range(100), "text": words}), tmp_path / "in" / "a.parquet")
    planned, shards = source.plan(SourceSpec(path=str(tmp_path / "in"), prepare=function, **more))
    return [row for shard in shards for batch in source.read(planned, shard, batch_rows) for row in batch.to_pylist()]


def test_a_function_may_add_drop_and_change_columns_and_rows(tmp_path, module):
    name = module("""
        def odd(batch):
            numbers = batch.column("nr").to_pylist()
            assert numbers, "never called with an empty batch"
            return pa.record_batch({"half": [n / 2 for n in numbers if n % 2]})
        upper = lambda batch: batch.set_column(1, "text", pa.compute.utf8_upper(batch.column("text")))
    """)
    assert rows(tmp_path, f"{name}:odd", where="nr >= 30")[0] == {"half": 15.5}
    assert len(rows(tmp_path, f"{name}:odd")) == 50
    assert rows(tmp_path, f"{name}:upper")[0] == {"nr": 0, "text": "WORD 0"}


def test_a_function_that_fails_on_the_first_rows_is_refused_by_the_plan(tmp_path, module):
    name = module("def broken(batch):\n    raise KeyError('no such thing\\nat all')\n")
    with pytest.raises(SpecError) as caught:
        rows(tmp_path, f"{name}:broken")
    assert str(caught.value) == (
        f"source.prepare '{name}:broken' failed on rows 1 to 64 of {tmp_path}/in/a.parquet: KeyError: 'no such "
        f"thing\\nat all' ({tmp_path}/{name}.py, line 3); correct the function and run again"
    )


def test_a_function_that_fails_later_names_the_file_and_the_rows(tmp_path, module):
    name = module("""
        def late(batch):
            if 75 in batch.column("nr").to_pylist():
                raise ValueError("75 is too much")
            return batch
    """)
    with pytest.raises(SourceError, match=r"failed on rows 71 to 80 of .*a.parquet: ValueError: 75 is too much"):
        rows(tmp_path, f"{name}:late")


def test_wrong_return_values_of_a_prepare_function_are_reported(tmp_path, module):
    name = module("""
        def table(batch):
            return pa.Table.from_batches([batch])
        def twice(batch):
            return pa.RecordBatch.from_arrays(batch.columns, names=["nr", "nr"])
        def sometimes(batch):
            return batch if 75 not in batch.column("nr").to_pylist() else batch.select(["text"])
        def other_type(batch):
            words = "word" if 75 in batch.column("nr").to_pylist() else 1
            return batch.append_column("n", pa.array([words] * len(batch)))
    """)
    with pytest.raises(SpecError, match=r"returned a Table for rows 1 to 64 .* must return a pyarrow.RecordBatch"):
        rows(tmp_path, f"{name}:table")
    with pytest.raises(SpecError, match="returned two columns 'nr'"):
        rows(tmp_path, f"{name}:twice")
    with pytest.raises(SourceError, match=r"dropped column 'nr' for rows 71 to 80 .* the same columns for every batch"):
        rows(tmp_path, f"{name}:sometimes")
    with pytest.raises(SourceError, match=r"for rows 71 to 80 .*: column 'n' is string, planned as int64"):
        rows(tmp_path, f"{name}:other_type")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("import no_such_package\n", "cannot be imported: No module named 'no_such_package'"),
        ("def f(batch:\n", "cannot be imported: SyntaxError: "),
        ("raise RuntimeError('not today')\n", "cannot be imported: RuntimeError: not today"),
        ("f = 3\n", "is a int, not a function"),
        ("def g(batch): ...\n", "cannot be imported: module .* has no attribute 'f'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported_in_one_sentence(module, body, told):
    with pytest.raises(SpecError, match=told) as caught:
        prepare.load(f"{module(body)}:f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["json", ":f", "json:", "json.loads", "./json.py:loads", "json:loads:x"])
def test_a_reference_names_a_module_and_a_function(reference):
    with pytest.raises(SpecError, match="is not module:function"):
        prepare.load(reference)


def test_the_version_follows_the_module_and_that_of_the_function(module, tmp_path):
    inner = module("def f(batch):\n    return batch\n")
    outer = module(f"from {inner} import f\n")
    before = prepare.version(f"{outer}:f")
    assert before == prepare.version(f"{outer}:f")
    (tmp_path / f"{inner}.py").write_text("def f(batch):\n    return batch.slice(1)\n")
    assert prepare.version(f"{outer}:f") != before
    assert prepare.version("math:sqrt")


def test_string_views_of_a_function_become_strings_and_a_text_cut_inside_a_character_rejects_its_row(tmp_path, module):
    name = module("""
        def cut(batch):
            texts = [b"\\xc3" if nr == 3 else b"fine" for nr in batch.column("nr").to_pylist()]
            buffers = pa.array(texts, pa.binary()).buffers()
            cut = pa.Array.from_buffers(pa.string(), len(texts), buffers)
            return batch.set_column(1, "text", cut)
        view = lambda batch: batch.set_column(1, "text", batch.column("text").cast(pa.string_view()))
    """)
    assert rows(tmp_path, f"{name}:view")[0] == {"nr": 0, "text": "word 0"}
    planned, shards = source.plan(SourceSpec(path=str(tmp_path / "in"), prepare=f"{name}:view"))
    assert planned.schema.field("text").type == pa.string()
    planned, shards = source.plan(SourceSpec(path=str(tmp_path / "in"), prepare=f"{name}:cut"))
    items = list(source.read(planned, shards[0], 10))
    (bad,) = [item for item in items if isinstance(item, source.BadRow)]
    assert (bad.error_type, bad.column, bad.values["nr"].to_pylist()) == ("InvalidUTF8", "text", [3])
    assert sum(len(item) for item in items if item is not bad) == 99
