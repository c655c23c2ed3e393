"""The steps that encoder tasks share: a repeated text is computed once, a refused row is a failure."""

import pyarrow as pa
import torch

from transforms.annotate import annotate_texts
from transforms.batches import Caps


def annotate(texts, refuse=(), break_at=()):
    computed = []

    def tokenise(rows):
        return [(row, ValueError(f"no {row.text}") if row.text in refuse else row.text) for row in rows]

    def compute(units):
        if any(unit in break_at for unit in units):
            raise RuntimeError("broken")
        computed.extend(units)
        return torch.tensor([[len(unit)] for unit in units])

    gathered, failures, tokens, slots = annotate_texts(pa.array(texts, pa.string()), tokenise, len, compute, 64, Caps())
    lengths = [int(gathered[row][0][1][0]) if row in gathered else None for row in range(len(texts))]
    return lengths, [(f.row, f.error_type, f.message) for f in failures], tokens, slots, computed


def test_a_text_that_several_rows_have_is_computed_and_counted_once():
    lengths, failures, tokens, slots, computed = annotate(["ok", "thanks", "ok", None, "", "ok", "thanks", "no way"])
    assert lengths == [2, 6, 2, None, None, 2, 6, 6]
    assert sorted(computed) == ["no way", "ok", "thanks"]
    assert tokens == 14
    assert slots >= tokens
    assert not failures


def test_every_row_of_a_text_that_fails_is_a_failure():
    lengths, failures, *_ = annotate(["ok", "bad", "x", "bad", "no", "no"], refuse=["no"], break_at=["bad"])
    assert lengths == [2, None, 1, None, None, None]
    assert failures == [
        (1, "RuntimeError", "broken"),
        (3, "RuntimeError", "broken"),
        (4, "ValueError", "no no"),
        (5, "ValueError", "no no"),
    ]


def test_a_refused_row_costs_no_second_tokenisation():
    calls = []

    def tokenise(rows):
        calls.append(len(rows))
        return [(row, ValueError("no")) for row in rows]

    gathered, failures, tokens, slots = annotate_texts(
        pa.array([str(i) for i in range(50)]), tokenise, len, lambda units: torch.zeros(len(units)), 64, Caps()
    )
    assert (gathered, len(failures), tokens, slots, calls) == ({}, 50, 0, 0, [50])
