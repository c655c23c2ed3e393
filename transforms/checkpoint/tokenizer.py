"""The tokenizer of a model folder: its files, its vocabulary, and whether each token has an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import (
    TOKENIZER_MAPPING,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from transforms.checkpoint import files
from transforms.errors import ModelError

JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")

# Name patterns of files that hold a vocabulary or a part of one.
VOCABULARIES = (
    *("tokenizer.json", "tokenizer.[0-9]*.json", "vocab*.txt", "vocab*.json", "merges.txt", "*.model", "*.spm"),
    *("*.tiktoken", "tekken.json", "bpe.codes", "*.tokenizer", "dict.txt", "entity_vocab.json", "byte_maps.json"),
)

# Keys of files that a tokenizer class names but does not need, or for which it raises its own error when it loads.
OPTIONAL = ("tokenizer_file", "tokenizer_config_file", "normalizer_file", "target_vocab_file", "spm_file")


def read(folder: str, config: PretrainedConfig, trusted: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder.

    Args:
        folder: folder of the model, or of an adapter with its own tokenizer.
        config: configuration of the model.
        trusted: whether code that the folder brings along may be run.

    Raises:
        ModelError: files are missing or damaged, or the vocabulary is empty.
    """
    root = Path(folder)
    for name in JSON_FILES:
        if (root / name).is_file():
            files.read_json(root / name)
    vocabularies = sorted({file for pattern in VOCABULARIES for file in root.glob(pattern)})
    for file in vocabularies:
        files.require(file, "a tokenizer's vocabulary")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=trusted)
    # Each kind of tokenizer raises its own exception for a missing or damaged file.
    except Exception as error:
        if missing := _missing(root, _class_of(root, config)):
            raise _incomplete(root, missing) from error
        if not vocabularies:
            raise _incomplete(root, ["tokenizer.json"]) from error
        if damaged := next((file for file in vocabularies if not _is_sentencepiece(file)), None):
            raise ModelError(
                f"{damaged} is not a SentencePiece model; copy it again from where the model came from"
            ) from error
        fix = (
            "install that" if isinstance(error, ImportError) else "copy its files again from where the model came from"
        )
        raise ModelError(f"the tokenizer in {folder!r} cannot be loaded ({files.first_line(error)}); {fix}") from error
    whole = getattr(tokenizer, "is_fast", False) and any(file.name.startswith("tokenizer.") for file in vocabularies)
    if not whole and (missing := _missing(root, type(tokenizer))):
        raise _incomplete(root, missing)
    _check_vocabulary(folder, tokenizer)
    _check_length(folder, tokenizer)
    return tokenizer


def check_embedding(folder: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Refuse a tokenizer with tokens for which the network has no embedding.

    Args:
        folder: folder of the tokenizer.
        tokenizer: the tokenizer.
        rows: number of tokens that the network has an embedding for.

    Raises:
        ModelError: there is such a token.
    """
    name, token = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if token >= rows:
        raise ModelError(
            f"the tokenizer in {folder!r} has token {name!r} at {token}, and the model has embeddings for {rows}; "
            "copy the tokenizer that belongs to this model, or resize its embeddings and save it again"
        )


def _check_length(folder: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a longest text that leaves no room for a token besides the special ones."""
    length = tokenizer.model_max_length
    if isinstance(length, (int, float)) and length > (special := tokenizer.num_special_tokens_to_add()):
        return
    wanted = f"a whole number above {special}" if isinstance(length, (int, float)) else "a whole number"
    raise ModelError(
        f"tokenizer_config.json in {folder!r} has model_max_length {length!r}; give {wanted}, such as 512, or remove it"
    )


def _is_sentencepiece(file: Path) -> bool:
    """Whether a vocabulary file can be read as a SentencePiece model; True for files with another ending."""
    if file.suffix not in (".model", ".spm") or file.name == "tiktoken.model":
        return True
    from sentencepiece import SentencePieceProcessor

    try:
        return bool(SentencePieceProcessor().Load(str(file)))
    except (OSError, RuntimeError):
        return False


def _class_of(root: Path, config: PretrainedConfig) -> Any:
    """The tokenizer class that the files of a folder name, found without loading it."""
    named = root / "tokenizer_config.json"
    name = files.read_json(named).get("tokenizer_class") if named.is_file() else None
    return getattr(transformers, str(name), None) or TOKENIZER_MAPPING.get(type(config), None)


def _missing(root: Path, kind: Any) -> list[str]:
    """The vocabulary files that a tokenizer class names and the folder lacks."""
    if kind is None or kind is PreTrainedTokenizerFast:
        return []  # This class reads any of a dozen formats, or raises an error.
    if any((root / name).is_file() for name in ("tekken.json", "tokenizer.model", "tiktoken.model")):
        return []  # Any class reads these instead of its own files.
    named = getattr(kind, "vocab_files_names", {})
    return [name for key, name in named.items() if key not in OPTIONAL and not (root / name).is_file()]


def _incomplete(root: Path, missing: list[str]) -> ModelError:
    wanted = " and ".join(missing)
    either = "" if "tokenizer.json" in missing else " (or tokenizer.json)"
    verb = "is" if len(missing) == 1 else "are"
    return ModelError(
        f"model {str(root)!r} has no complete tokenizer: {wanted}{either} {verb} missing; "
        "copy the tokenizer's files from where the model came from, or save it there with tokenizer.save_pretrained"
    )


def _check_vocabulary(folder: str, tokenizer: Any) -> None:
    """Refuse a vocabulary of special tokens only: transformers makes one if the files are missing."""
    if not type(tokenizer).vocab_files_names:
        return  # The vocabulary is bytes or code points (ByT5, CANINE).
    added = tokenizer.added_tokens_decoder
    if all(token in added for token in tokenizer.get_vocab().values()):
        raise ModelError(
            f"the tokenizer in {folder!r} has no words in its vocabulary, so that every word would be unknown; "
            "copy the tokenizer's files again from where the model came from"
        )
