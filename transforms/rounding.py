"""A model in float32 that becomes int8: one load for a comparison of both on the same rows.

rounding = Rounding(reference, "AutoModelForSequenceClassification")
with rounding.observed(ranges := {}):
    ...                             # rows through rounding.exact, in float32
rounded = rounding.rounded(ranges)  # the same network in int8, its activations in these ranges
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from transforms import engines
from transforms.architecture import WRITERS
from transforms.casting import cast
from transforms.engines import int8, ranges
from transforms.engines.layers import Replaced, put_back
from transforms.engines.ranges import Ranges
from transforms.model import Model, read, settled, tried
from transforms.reference import ModelRef


class Rounding:
    """A model that is loaded once and computes in float32 or in int8, in turn.

    Attributes:
        exact: the model in float32, to be used within `observed` or `in_float32`.

    Args:
        ref: what to load; its dtype is int8.
        architecture: a task's ARCHITECTURE.

    Raises:
        ModelError: as `transforms.model.load`.
    """

    def __init__(self, ref: ModelRef, architecture: str | type):
        found = read(ref, architecture)
        cast(found.model.network, found.network_dtype)
        self.head = found.head
        # Int8 would hide a small effect of one row on another.
        model = tried(found.model, found.head, "float32")
        self.model = replace(model, compute=engines.prepare_exact(model.network, found.head))
        self.exact = settled(self.model, found.head, "float32")
        # The layers that are not in the network now, once it has been quantised.
        self.others: Replaced = []
        self.is_rounded = False

    def rounded(self, ranges: Ranges | None) -> Model:
        """The model in int8; it is the network's last user, until `observed` or `in_float32`.

        Args:
            ranges: ranges of the inputs of its linear layers; a layer without one, or every layer with None, finds it
                for each batch.
        """
        if not self.others:
            self.others = int8.quantise(self.model.network)
        elif not self.is_rounded:
            self._swap()
        self.is_rounded = True
        int8.fix(self.model.network, ranges)
        rule = None if self.head in WRITERS else self.exact.padding
        return settled(self.model, self.head, "int8", rule)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """The network is as it was loaded within the block, and in int8 again afterwards if it was before."""
        was_rounded = self.is_rounded
        if was_rounded:
            self._swap()
        try:
            yield
        finally:
            if was_rounded:
                self._swap()

    @contextmanager
    def observed(self, found: dict[str, tuple[float, float]]) -> Iterator[None]:
        """As `in_float32`, and ranges widen by the inputs of the linear layers.

        Args:
            found: the ranges by the names of the layers, changed in place.
        """
        with self.in_float32(), ranges.observed(self.model.network, found):
            yield

    def _swap(self) -> None:
        self.others = put_back(self.others)
        self.is_rounded = not self.is_rounded
