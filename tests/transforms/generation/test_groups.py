"""The cache of rows in flight shows each row its own columns and source, whoever comes and goes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.generation.columns import Prefilled
from transforms.generation.groups import Groups, GroupTensors


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_slots_keep_each_row_s_columns_while_rows_are_added_and_removed(data):
    most = data.draw(st.integers(1, 3))
    groups, rows, born = Groups(most), [], 0
    for _ in range(data.draw(st.integers(1, 40))):
        free = 8 - groups.rows
        if free and (not rows or data.draw(st.booleans())):
            count, width, source = data.draw(st.tuples(st.integers(1, free), st.integers(1, 5), st.integers(1, 6)))
            own, cross = _numbers(born, count, width), _numbers(born, count, source)
            waiting = Prefilled([(own, -own)], [(cross, -cross)], np.full(count, source))
            at = groups.admit(waiting, list(range(count)), 8)
            rows[at:at] = [(own[i, 0, :, 0].tolist(), cross[i, 0, :, 0].tolist()) for i in range(count)]
            born += count
        if not rows:
            continue
        cache = groups.open(torch.float32)
        assert groups.positions().tolist() == [len(own) for own, _ in rows]
        new = torch.arange(len(rows), dtype=torch.float32).reshape(-1, 1, 1, 1) + 0.5
        keys, values = cache.self_attention_cache.update(new, -new, 0)
        groups.close()
        cross = cache.cross_attention_cache.layers[0].keys
        all_keys, all_values = _seen(keys), _seen(values)
        all_sources = _seen(cross)
        for slot, (own, source) in enumerate(rows):
            own.append(slot + 0.5)
            assert all_keys[slot] == own
            assert all_values[slot] == [-number for number in own]
            assert all_sources[slot] == source
        gone = data.draw(st.sets(st.integers(0, len(rows) - 1)))
        left = groups.evict(sorted(gone))
        assert sorted(left) == sorted(set(range(len(rows))) - gone)
        rows = [rows[was] for was in left]
        assert len(groups.groups) <= most


def _seen(held: GroupTensors) -> list[list[float]]:
    """What each row's mask lets through."""
    found = []
    for part, added in zip(held.tensors, held.masks, strict=True):
        seen = torch.ones(len(part), part.shape[2]) if added is None else added[:, 0, 0] == 0
        found += [row[0, one.bool(), 0].tolist() for row, one in zip(part, seen, strict=True)]
    return found


def _numbers(first: int, rows: int, width: int) -> torch.Tensor:
    """Tensor `(rows, 1, width, 1)` in which no number comes twice."""
    return (torch.arange(rows * width, dtype=torch.float32) + 100 * (first + 1)).reshape(rows, 1, width, 1)
