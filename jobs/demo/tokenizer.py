"""A WordPiece tokenizer as BERT's, cased, that leaves accents and combining marks alone."""

from __future__ import annotations

import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: list[str], vocabulary: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer, the same each time.

    Args:
        texts: to learn from.
        vocabulary: word pieces, at least one for each letter.
        max_tokens: where it cuts a text off.
    """
    backend = _wordpiece(_vocabulary(texts, vocabulary))
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        [(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _vocabulary(texts: list[str], size: int) -> dict[str, int]:
    """Word pieces and their ids.

    The trainer breaks ties by ids, and numbers letters in the order of a hash table, another one each time. So they are
    given to it as special tokens, which come first and in order; that tokenizer serves for nothing else.
    """
    letters = sorted(set("".join(texts)) - set(string.whitespace))
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    trained = _wordpiece({token: i for i, token in enumerate(SPECIAL)})
    trained.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    )
    return trained.get_vocab()


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend
