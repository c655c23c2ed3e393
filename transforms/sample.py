"""Sample rows of several lengths for trials of a loaded model; they are the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from transforms import frame, pairs
from transforms.filler import vocabulary

if TYPE_CHECKING:
    from transforms.model import Model

# Ordinary tokens of each row: short rows get much padding in a batch with a long one.
LENGTHS = (3, 7, 14)


class Tokens(NamedTuple):
    """One row of the trial: token ids; type ids if it is a pair of texts."""

    ids: list[int]
    type_ids: list[int] | None


def sample_rows(model: Model, paired: bool) -> list[Tokens]:
    """Rows of several lengths: ordinary tokens between the tokenizer's special tokens, the same every time.

    Args:
        model: the model; the rows fit its tokenizer, window and vocabulary.
        paired: whether a row is a pair of texts.
    """
    tokenizer = model.tokenizer
    template = pairs.learn(tokenizer) if paired else None
    head, tail = frame.frame_ids(tokenizer)
    room = max(1, model.max_length - (template.special if template else len(head) + len(tail)))
    size = min(len(tokenizer), vocabulary(model.network))
    lengths = (*LENGTHS[:-1], max(LENGTHS[-1], 4 * chunk_length(model)))
    special = set(tokenizer.all_special_ids)
    # Tokens with neighbouring ids are often similar, so the ids are spread.
    ordinary = [i for i in ((13 + 7919 * k) % size for k in range(4 * sum(lengths))) if i not in special] or [0]
    rows = []
    for number, length in enumerate(lengths):
        body = [ordinary[(number + len(lengths) * k) % len(ordinary)] for k in range(min(length, room))]
        if template is None:
            rows.append(Tokens([*head, *body, *tail], None))
        else:
            first, second = body[: len(body) // 3], body[len(body) // 3 :]
            rows.append(Tokens(template.ids(first, second), template.type_ids(len(first), len(second))))
    return rows


def chunk_length(model: Model) -> int:
    """The largest chunk length of a network that computes attention in chunks; 0 for other networks.

    Reformer draws random numbers for rows longer than a chunk; they change results of rows with several chunks.
    """
    attributes = vars(model.network.config.get_text_config())
    return max((n for name, n in attributes.items() if name.endswith("chunk_length") and isinstance(n, int)), default=0)
