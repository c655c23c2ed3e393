"""An index finds each hash that was added, at the first of its places, and no other."""

import numpy as np
import pytest

from jobs.reuse import index


def digests(*numbers):
    return np.array([[n >> 8 * i & 255 for i in reversed(range(16))] for n in numbers], np.uint8).reshape(-1, 16)


@pytest.mark.parametrize("bucket_rows", [1 << 20, 100])
def test_of_equal_hashes_the_first_place_is_found_whatever_the_buckets(tmp_path, monkeypatch, bucket_rows):
    monkeypatch.setattr(index, "BUCKET_ROWS", bucket_rows)
    random = np.random.default_rng(0)
    known = random.integers(0, 256, (1000, 16), dtype=np.uint8)
    batches = [(known[::-1], np.arange(1000, dtype=np.uint64)), (known, np.arange(1000, 2000, dtype=np.uint64))]
    found = index.opened(tmp_path / "new", "rows", 2000, batches)
    asked = np.concatenate([random.integers(0, 256, (7, 16), dtype=np.uint8), known])
    mask, places = found.find(asked)
    assert mask.tolist() == [False] * 7 + [True] * 1000
    assert places.tolist() == list(range(999, -1, -1))
    assert sorted(path.suffix for path in (tmp_path / "new").iterdir()) == [".high", ".lock", ".low", ".place"]


def test_hashes_that_share_their_first_half_are_not_taken_for_each_other(tmp_path):
    found = index.opened(tmp_path, "rows", 1, [(digests(5 << 64 | 1), np.array([9], np.uint64))])
    mask, places = found.find(digests(5 << 64 | 2, 5 << 64 | 1, 0, (1 << 128) - 1))
    assert (mask.tolist(), places.tolist()) == ([False, True, False, False], [9])


def test_an_index_without_rows_finds_nothing(tmp_path):
    mask, places = index.opened(tmp_path, "rows", 0, []).find(digests(1, 2))
    assert (mask.tolist(), places.tolist()) == ([False, False], [])


def test_the_second_process_opens_what_the_first_has_built_and_a_killed_one_leaves_nothing_half_built(tmp_path):
    def killed():
        yield digests(1), np.array([1], np.uint64)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.opened(tmp_path, "rows", 1, killed())
    index.opened(tmp_path, "rows", 1, [(digests(7), np.array([3], np.uint64))])
    mask, places = index.opened(tmp_path, "rows", 1, killed()).find(digests(1, 7))
    assert (mask.tolist(), places.tolist()) == ([False, True], [3])
