"""A file that is compressed, or of another format, without a name that says so is refused with the fix."""

import bz2
import gzip
import io
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.spec import SourceSpec
from transforms.errors import UnreadableSource


def _zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.csv", "id,text\n1,x\n")
    return archive.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), file)
    return file.getvalue()


def _arrow() -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_file(file, pa.schema([("id", pa.int64())])):
        pass
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"id\n1\n"), "is compressed with gzip, and its name does not say so; rename it to {}.gz, or "),
        (pa.compress(b"id\n1\n", "zstd", asbytes=True), "compressed with zstd"),
        (bz2.compress(b"id\n1\n"), "compressed with bzip2"),
        (lzma.compress(b"id\n1\n"), "compressed with xz"),
        (_zip(), "is a zip file, as those of Excel are; unpack it, or save it as CSV"),
        (_parquet(), "is a Parquet file; rename it to end in .parquet, or set source.format: parquet"),
        (_arrow(), "is an Arrow file"),
    ],
)
def test_a_text_file_of_another_kind_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableSource, match=message.format(name)):
        source.plan(SourceSpec(path=str(tmp_path)))


def test_a_file_that_is_compressed_twice_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(gzip.compress(b"id\n1\n")))
    with pytest.raises(UnreadableSource, match="is compressed twice, the second time with gzip; unpack it once"):
        source.plan(SourceSpec(path=str(tmp_path)))
