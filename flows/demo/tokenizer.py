"""A WordPiece tokenizer like that of BERT; training it is deterministic."""

from __future__ import annotations

import string

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(
    texts: list[str], vocabulary: int, max_tokens: int, *, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Train a tokenizer; equal arguments give an equal tokenizer.

    Args:
        texts: texts to learn from.
        vocabulary: number of word pieces, at least one for each letter.
        max_tokens: maximum number of tokens of a text; longer texts are truncated.
        lowercase: fold case and strip accents, like an uncased BERT; otherwise case, accents and combining marks stay.
    """
    backend = _wordpiece(_vocabulary(texts, vocabulary, lowercase), lowercase)
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
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _vocabulary(texts: list[str], size: int, lowercase: bool) -> dict[str, int]:
    """Word pieces and their ids.

    The trainer breaks ties by token ids, and it numbers letters in the order of a hash table, which differs from run to
    run. So the letters are passed as special tokens, which are numbered first and in the given order. Only the
    vocabulary of that tokenizer is used.
    """
    letters = sorted(set("".join(texts)) - set(string.whitespace))
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    trained = _wordpiece({token: i for i, token in enumerate(SPECIAL)}, lowercase)
    trained.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
    )
    return trained.get_vocab()


def _wordpiece(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend
