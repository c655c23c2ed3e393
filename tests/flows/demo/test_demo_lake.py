"""The lake is the same every time, and its gold is true."""

import re
import statistics
import unicodedata

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.demo.grammar import write_review
from flows.demo.lake import GOLD, GOLD_FILE, REVIEWS, write_lake
from flows.demo.words import BRANDS, LANGUAGES, LINES

ROWS = 3000
NAMES = [BRANDS] + [
    names for words in LANGUAGES.values() for names in (words.first_names, words.last_names, words.cities)
]
UNSEEN = {name for names in NAMES for name in names.unseen}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    write_lake(folder, rows=ROWS)
    return folder


@pytest.fixture(scope="module")
def rows(lake):
    """Every review with its gold, by id."""
    reviews = ds.dataset(lake / "reviews", partitioning="hive").to_table().to_pylist()
    gold = {row["id"]: row for row in pq.read_table(lake / GOLD_FILE).to_pylist()}
    return {row["id"]: row | gold[row["id"]] for row in reviews}


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_lake(tmp_path / name, rows=200, seed=seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a").keys() == content(tmp_path / "c").keys()
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_the_files_are_hive_partitions_with_the_promised_columns(lake):
    files = sorted((lake / "reviews").rglob("*.parquet"))
    assert {file.parent.name for file in files} == {f"lang={language}" for language in LANGUAGES}
    assert len(files) > len(LANGUAGES)
    assert all(pq.read_schema(file).equals(REVIEWS) for file in files)
    assert pq.read_schema(lake / GOLD_FILE).equals(GOLD)
    assert max(pq.ParquetFile(file).num_row_groups for file in files) > 1


def test_ids_are_unique_and_the_gold_has_each_of_them_once(lake, rows):
    gold = pq.read_table(lake / GOLD_FILE)
    assert len(rows) == gold.num_rows == len(set(gold["id"].to_pylist())) == ROWS
    assert set(gold["id"].to_pylist()) == rows.keys()


def test_the_splits_are_about_seventy_to_thirty_and_share_no_text(rows):
    texts = {split: [r["text"] for r in rows.values() if r["split"] == split] for split in ("train", "heldout")}
    assert len(texts["train"]) + len(texts["heldout"]) == ROWS
    assert 0.25 < len(texts["heldout"]) / ROWS < 0.35
    shared = set(texts["train"]) & set(texts["heldout"])
    assert all(not (text or "").strip() for text in shared)


def test_gold_offsets_select_the_names_in_each_text(rows):
    known = {name for names in NAMES for name in names.known}
    parts = {unicodedata.normalize("NFC", part).casefold() for name in known | UNSEEN for part in name.split()}
    parts |= {part.casefold() for lines in LINES.values() for line in lines for part in line.split()}
    count = 0
    for row in rows.values():
        end = 0
        for entity in row["entities"] or ():
            name = row["text"][entity["start"] : entity["end"]]
            assert entity["label"] in ("PERSON", "CITY", "PRODUCT")
            assert entity["start"] >= end
            assert {part.casefold() for part in unicodedata.normalize("NFC", name).split()} <= parts, name
            end, count = entity["end"], count + 1
    assert count > ROWS


def test_names_for_held_out_rows_only_are_in_no_training_text(rows):
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, UNSEEN))})(?!\w)", re.IGNORECASE)
    found = {"train": set(), "heldout": set()}
    for row in rows.values():
        text = unicodedata.normalize("NFC", row["text"] or "")
        found[row["split"]] |= {name.casefold() for name in pattern.findall(text)}
    assert found["train"] == set()
    assert len(found["heldout"]) > 0.9 * len(UNSEEN)


def test_the_lake_has_every_kind_of_special_text(rows):
    texts = [row["text"] for row in rows.values()]
    present = [text for text in texts if text]
    assert texts.count(None) >= 3
    assert texts.count("") >= 3
    assert sum(text.isspace() for text in present) >= 3
    assert sum(not any(c.isalnum() or c.isspace() for c in text) for text in present) >= 3
    assert sum(any(unicodedata.combining(c) for c in text) for text in present) >= 6
    assert sum(any(unicodedata.bidirectional(c) in "RAL" for c in text) for text in present) >= ROWS // 12
    assert sum(len(text) >= 50_000 for text in present) == 5
    assert any(row["split"] == "heldout" and len(row["text"] or "") >= 50_000 for row in rows.values())
    assert any(row["stars"] is None for row in rows.values())


def test_lengths_have_a_long_tail(rows):
    words = [
        len(row["text"].split()) for row in rows.values() if row["entities"] is not None and len(row["text"]) < 50_000
    ]
    assert 20 <= statistics.median(words) <= 30
    assert sum(n > 200 for n in words) >= 10
    assert max(words) > 300


def test_a_row_has_gold_if_and_only_if_it_has_a_text(rows):
    for row in rows.values():
        has_text = bool((row["text"] or "").strip())
        assert (row["sentiment"] is not None, row["entities"] is not None) == (has_text, has_text)


def test_held_out_emoji_have_the_sentiment_they_show_and_some_training_labels_are_wrong(rows):
    good = [row for row in rows.values() if row["sentiment"] and row["stars"] == 5]
    assert all(row["sentiment"] != "negative" for row in good if row["split"] == "heldout")
    wrong = [row["sentiment"] == "negative" for row in good if row["split"] == "train"]
    assert 0 < sum(wrong) < 0.05 * len(wrong)


def test_a_lake_that_is_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows is 10; .* at least 100"):
        write_lake(tmp_path, rows=10)


def test_the_smallest_lake_has_every_language(tmp_path):
    write_lake(tmp_path, rows=100)
    assert {path.name for path in (tmp_path / "reviews").iterdir()} == {f"lang={language}" for language in LANGUAGES}


@settings(max_examples=60)
@given(
    st.sampled_from(["plain", "combining"]),
    st.sampled_from([*LANGUAGES]),
    st.sampled_from([*LINES]),
    st.booleans(),
    st.randoms(),
)
def test_no_review_leaves_a_slot_open_or_names_outside_its_text(kind, language, category, heldout, rng):
    review = write_review(kind, language, category, heldout, rng)
    assert not re.search(r"[{}]", review.text)
    assert all(0 <= e.start < e.end <= len(review.text) for e in review.entities)
    assert all(review.text[e.start : e.end].strip() == review.text[e.start : e.end] for e in review.entities)
    assert pa.array([vars(e) for e in review.entities], GOLD.field("entities").type.value_type).null_count == 0
