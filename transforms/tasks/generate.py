"""Generation: what a causal language model writes after a prompt made of the row's columns.

Source: the AutoModelForCausalLM models of transformers; the tokens are those of `model.generate()` one row at a time,
by continuous batching (see generation/causal.py). Texts that must follow a JSON schema: llguidance, see
generation/guide.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from transforms import json_types, template
from transforms.errors import ModelError, SpecError
from transforms.generation import guide
from transforms.options import column_field, template_field
from transforms.template import Chat

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.generate import Generator
    from transforms.model import Model

ARCHITECTURE = "AutoModelForCausalLM"
VERSION = 1


@dataclass(frozen=True)
class Options:
    """The options of `generate` in a job file.

    Attributes:
        prompt: the prompt, with {column} where the text of a column goes; write a literal brace twice, {{ or }}.
        column: the column that holds the whole prompt; give this or `prompt`.
        system: the system message, before the prompt.
        chat: whether the tokenizer's chat template is used: auto uses it if there is one, always requires one, never
            ignores it.
        max_new_tokens: maximum number of tokens to generate; a longer text is cut.
        temperature: sample tokens at this temperature; by default the most likely token is chosen.
        top_k: sample from the k most likely tokens; by default the value in the model's own configuration.
        top_p: sample from the most likely tokens whose probabilities add up to this; by default the value in the
            model's own configuration.
        seed: seed of the sampling; the same seed and prompt give the same text, in every run.
        num_beams: number of beams; 1 is greedy search.
        repetition_penalty: above 1, tokens that are already in the prompt or the text become less likely.
        stop: strings at which the text ends; they are not part of it.
        json_schema: a JSON schema, or the name of a file with one; every text is JSON that is valid under it.
        json_column: whether the column holds the JSON as a string, or as a struct with a field for each key of
            `json_schema`.
        long_text: what happens to a prompt that is longer than the model's window: truncate cuts its longest column,
            reject rejects the row.
    """

    prompt: str | None = template_field("text with {column} where a column's text goes")
    column: str | None = column_field("column that is the prompt", default=None)
    system: str | None = None
    chat: Chat = "auto"
    max_new_tokens: int = 256
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    num_beams: int = 1
    repetition_penalty: float | None = None
    stop: list[str] | None = None
    json_schema: dict[str, Any] | str | None = None
    json_column: Literal["string", "struct"] = "string"
    long_text: Literal["truncate", "reject"] = "truncate"

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.column is None):
            raise ValueError("give either prompt (a template over columns) or column (the prompt itself), and not both")
        if self.prompt is not None and not template.columns(self.prompt):
            raise ValueError(
                f"prompt is {self.prompt!r}, the same for every row; name a column in it, such as {{text}}"
            )
        for name, least in (("max_new_tokens", 1), ("num_beams", 1), ("top_k", 0), ("seed", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} is {value}; give a number from {least}")
        for name in ("temperature", "top_p", "repetition_penalty"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} is {value}; give a number above 0")
        if self.top_p is not None and self.top_p > 1:
            raise ValueError(f"top_p is {self.top_p}; give a probability above 0, at most 1")
        if self.temperature is None and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p apply to sampling only; set temperature too, such as 1.0")
        if self.num_beams > 1 and (self.temperature is not None or self.json_schema is not None):
            raise ValueError(
                f"num_beams is {self.num_beams}, which cannot be combined with temperature or json_schema; leave it out"
            )
        if self.stop is not None and (not all(self.stop) or self.json_schema is not None):
            raise ValueError(
                f"stop is {self.stop}; give strings that are not empty, and either stop or json_schema, not both"
            )
        if isinstance(self.json_schema, str):
            # The schema itself, not the name of its file, so that the fingerprint changes when the file does.
            object.__setattr__(self, "json_schema", _schema_in(self.json_schema))
        if self.json_column == "struct":
            if self.json_schema is None:
                raise ValueError(
                    "json_column is 'struct', which needs a json_schema with its fields; set json_schema too"
                )
            try:
                json_types.arrow_type(self.schema)
            except ValueError as error:
                raise ValueError(f"json_column is 'struct', and in json_schema {error}") from error

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema that every text must follow; empty if there is none."""
        if not isinstance(self.json_schema, dict):
            return {}
        return json_types.closed(self.json_schema) if self.json_column == "struct" else self.json_schema


def _schema_in(file: str) -> dict[str, Any]:
    try:
        schema = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"json_schema: file {file!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"json_schema: file {file!r} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        # A ValueError, because pydantic collects the errors of a job file from ValueErrors.
        raise ValueError(  # noqa: TRY004
            f"json_schema: file {file!r} contains no JSON object; write a schema, see https://json-schema.org"
        )
    return schema


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model that is not causal, `max_new_tokens` larger than its window, and an invalid JSON schema."""
    if options.json_schema is not None:
        guide.check_schema(json.dumps(options.schema))
    if config is None:
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    wanted = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    architectures = config.architectures or []
    if wanted is None or (architectures and wanted not in architectures):
        raise ModelError(
            f"generate needs a causal language model ({wanted or '…ForCausalLM'}), and this one is a "
            f"{', '.join(architectures) or config.model_type}; encoder-decoders are for summarize and translate"
        )
    window = getattr(config, "max_position_embeddings", None)
    if isinstance(window, int) and options.max_new_tokens >= window:
        raise SpecError(
            f"max_new_tokens is {options.max_new_tokens}, and the model's window has {window} tokens for prompt "
            "and text together; give a smaller number"
        )


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """string, or a struct with the fields of the JSON schema; null where a column of the prompt is null or empty."""
    return json_types.arrow_type(options.schema) if options.json_column == "struct" else pa.string()


def load(options: Options, model: Model, max_tokens: int | None = None) -> Generator:
    """The task on a loaded model."""
    from transforms.annotators.generate import Generator

    return Generator(options, model, max_tokens)
