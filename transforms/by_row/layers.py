"""Layers that compute each row of a batch with its own adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from transforms.by_row.selection import Chosen, Selection


@dataclass(frozen=True)
class Term:
    """The low-rank term of one adapter for one layer; the scaling is in `up`.

    Attributes:
        down: float32 `(in, rank)`; for an embedding `(vocabulary, rank)`.
        up: float32 `(rank, out)`.
    """

    down: torch.Tensor
    up: torch.Tensor


def stack(terms: Sequence[Term | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """The terms of all adapters: `(adapters, in, rank)` and `(adapters, rank, out)`, ranks padded with zeros.

    Args:
        terms: the term of each adapter, None for an adapter that does not change the layer; one at least is not None.
    """
    known = [term for term in terms if term is not None]
    rank = max(term.down.shape[1] for term in known)
    nothing = Term(torch.zeros(known[0].down.shape[0], rank), torch.zeros(rank, known[0].up.shape[1]))
    padded = [nothing if term is None else term for term in terms]
    down = torch.stack([pad(term.down, (0, rank - term.down.shape[1])) for term in padded])
    return down, torch.stack([pad(term.up, (0, 0, 0, rank - term.up.shape[0])) for term in padded])


class LowRankLinear(nn.Module):
    """A linear layer and the low-rank terms of all adapters: `(batch, ..., in)` -> `(batch, ..., out)`.

    Args:
        base: the layer, nn.Linear or GPT-2's Conv1D; engines may replace it by a packed or quantised one.
        down: `(adapters, in, ranks)`, the ranks of all parts beside each other.
        ups: the parts, each `(adapters, rank, outputs)`; several if several layers were joined.
        starts: first output of each part.
        present: whether each adapter changes the layer.
        selection: the adapters of the current forward pass.
    """

    def __init__(
        self,
        base: Any,
        down: torch.Tensor,
        ups: Sequence[torch.Tensor],
        starts: Sequence[int],
        present: Sequence[bool],
        selection: Selection,
    ):
        super().__init__()
        self.base, self.selection, self.present = base, selection, tuple(present)
        self.in_features, self.out_features = down.shape[1], base_outputs(base)
        self.down = nn.Parameter(down, requires_grad=False)
        self.ups = nn.ParameterList(nn.Parameter(up, requires_grad=False) for up in ups)
        edges = [0]
        for up in ups:
            edges.append(edges[-1] + up.shape[1])
        # First and last rank, first and last output of each part.
        self.parts = tuple(
            (slice(first, last), slice(start, start + up.shape[2]))
            for first, last, start, up in zip(edges, edges[1:], starts, ups, strict=False)
        )
        # Some architectures read weight.dtype in their forward; one that multiplies by the weights fails.
        self.register_buffer("weight", down.new_empty(0), persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """What the base computes, plus the terms."""
        # The terms are added in place.
        output = self.base(rows).contiguous()
        chosen = self.selection.now
        if chosen.one is not None:
            if self.present[chosen.one]:
                self._add(output, rows, chosen.one)
        elif rows.ndim == 2:
            # Tokens without padding: a batched product would need a copy of the terms for each token.
            for adapter, places in chosen.runs(len(rows)):
                if self.present[adapter]:
                    self._add(output[places], rows[places], adapter)
        else:
            self._add_by_row(output.view(len(output), -1, self.out_features), rows.flatten(1, -2), chosen)
        return output

    def _add(self, output: torch.Tensor, rows: torch.Tensor, adapter: int) -> None:
        """Add the terms of one adapter to all rows, in place."""
        whole = output.view(-1, self.out_features)
        low = rows.reshape(-1, rows.shape[-1]) @ self.down[adapter]
        for (ranks, places), up in zip(self.parts, self.ups, strict=True):
            whole[:, places].addmm_(low[:, ranks], up[adapter])

    def _add_by_row(self, output: torch.Tensor, rows: torch.Tensor, chosen: Chosen) -> None:
        """Add the terms of each row's own adapter, in place: `(batch, seq, out)` and `(batch, seq, in)`."""
        own = chosen.of(len(rows))
        low = torch.bmm(rows, self.down[own])
        for (ranks, places), up in zip(self.parts, self.ups, strict=True):
            output[..., places].baddbmm_(low[..., ranks], up[own])


def linear(base: Any, terms: Sequence[Term | None], selection: Selection) -> LowRankLinear:
    """A layer with the terms of all adapters; None for an adapter that does not change it."""
    down, up = stack(terms)
    return LowRankLinear(base, down, [up], [0], [term is not None for term in terms], selection)


def join(linears: Sequence[Any], join_bases: Callable[..., Any]) -> LowRankLinear:
    """One layer with the concatenated outputs of several layers, some of them with terms.

    Args:
        linears: layers of the same input.
        join_bases: joins layers without terms.
    """
    bases = [each.base if isinstance(each, LowRankLinear) else each for each in linears]
    starts = [0]
    for base in bases:
        starts.append(starts[-1] + base_outputs(base))
    changed = [(each, start) for each, start in zip(linears, starts, strict=False) if isinstance(each, LowRankLinear)]
    return LowRankLinear(
        join_bases(*bases),
        torch.cat([each.down for each, _ in changed], dim=2),
        [up.data for each, _ in changed for up in each.ups],
        [start + places.start for each, start in changed for _, places in each.parts],
        [any(both) for both in zip(*(each.present for each, _ in changed), strict=True)],
        changed[0][0].selection,
    )


def base_outputs(base: Any) -> int:
    """Outputs of nn.Linear, or of GPT-2's Conv1D."""
    return int(base.nf if hasattr(base, "nf") else base.out_features)


class LowRankEmbedding(nn.Module):
    """An embedding and the low-rank terms of all adapters: ids `(batch, seq)` -> `(batch, seq, width)`."""

    def __init__(self, base: Any, terms: Sequence[Term | None], selection: Selection):
        super().__init__()
        self.base, self.selection = base, selection
        self.num_embeddings, self.embedding_dim = base.num_embeddings, base.embedding_dim
        self.padding_idx = base.padding_idx
        down, up = stack(terms)
        self.down, self.up = (nn.Parameter(tensor, requires_grad=False) for tensor in (down, up))
        # Read for its length and dtype; embeddings that other layers share are not replaced.
        self.weight = base.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """What the base looks up, plus the terms."""
        output = self.base(ids)
        scale = getattr(self.base, "embed_scale", 1.0)
        chosen = self.selection.now
        if chosen.one is not None:
            return output + (self.down[chosen.one][ids] @ self.up[chosen.one]) * scale
        own = chosen.of(len(ids))
        return output + torch.bmm(self.down[own[:, None], ids], self.up[own]) * scale


class OwnModule(nn.Module):
    """A module that adapters replace by one of their own, such as a classification head.

    Args:
        base: the base's module, for adapters without one of their own.
        own: the module of each adapter, or None.
        selection: the adapters of the current forward pass.
    """

    def __init__(self, base: Any, own: Sequence[nn.Module | None], selection: Selection):
        super().__init__()
        self.base, self.selection = base, selection
        self.own = nn.ModuleList(module if module is not None else nn.Identity() for module in own)
        self.has_own = tuple(module is not None for module in own)
        for name in ("in_features", "out_features"):
            if hasattr(base, name):
                setattr(self, name, getattr(base, name))
        first = next(base.parameters(), None)
        if first is not None:
            self.register_buffer("weight", first.detach().new_empty(0), persistent=False)

    def forward(self, rows: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        """Each row by its adapter's module; outputs of fewer labels are padded with zeros."""
        chosen = self.selection.now
        if chosen.one is not None:
            return self._module(chosen.one)(rows, *more, **named)
        found = [self._module(adapter)(rows[places], *more, **named) for adapter, places in chosen.runs(len(rows))]
        width = max(part.shape[-1] for part in found)
        return torch.cat([pad(part, (0, width - part.shape[-1])) for part in found])

    def _module(self, adapter: int) -> nn.Module:
        return self.own[adapter] if self.has_own[adapter] else self.base
