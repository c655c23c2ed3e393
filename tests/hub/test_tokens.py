"""A token that is written somewhere is found."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub import tokens
from tests.hub.hub import Hub


@pytest.mark.parametrize("file", ["report.html", "run.db", "rows.jsonl.gz", "part.parquet", "damaged.parquet"])
def test_a_token_is_found_in_a_file(hub: Hub, tmp_path: Path, file: str):
    # One that no user has: the end of the session looks for the others.
    token, place = f"hf_{'x' * 34}", tmp_path / "deep" / file
    place.parent.mkdir()
    text = f"Authorization: Bearer {token}\n"
    if file.endswith(".gz"):
        place.write_bytes(gzip.compress(text.encode()))
    elif file == "part.parquet":
        pq.write_table(pa.table({"n": [1, 2], "text": ["a", text]}), place, compression="zstd")
    else:
        place.write_bytes((b"PAR1" if file == "damaged.parquet" else b"\0") + text.encode())
    assert tokens.files_with([token], [tmp_path]) == [f"{place}: hf_xxxxx..."]
    assert tokens.files_with([hub.token("ada")], [tmp_path]) == []


def test_a_token_is_found_in_what_is_printed(hub: Hub):
    token = hub.token("ada")
    assert tokens.in_text(hub.given, f"\x1b[1mtoken={token}\x1b[0m, hf_other") == {token}
    assert tokens.in_text(hub.given, f"token={token[:-1]}") == set()
