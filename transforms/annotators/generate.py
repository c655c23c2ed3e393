"""Generation on a loaded model: see transforms/tasks/generate.py for its source and options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms import json_types, template
from transforms.batches import MAX_TOKENS, Caps
from transforms.contract import Annotation, failures_of
from transforms.errors import ModelError
from transforms.generation import guide, lanes
from transforms.generation.decode import Generation
from transforms.generation.prompt import Prompt, Prompts
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.generation.writer import Steps, alone
from transforms.model import Model
from transforms.tasks.generate import Options, output_type


class Generator:
    """Columns in, texts out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options, self.model = options, model
        self.max_tokens = max_tokens or MAX_TOKENS[model.device.type]
        self.caps = Caps()
        room = model.max_length - options.max_new_tokens
        cut = options.long_text == "truncate"
        parts = ["", options.column, ""] if options.column is not None else template.parse(options.prompt or "")
        self.prompts = Prompts(model, parts, room, options.system, options.chat, cut)
        self.how = Decoding(
            num_beams=options.num_beams,
            sample=options.temperature is not None,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repetition_penalty=options.repetition_penalty,
        )
        self.guide = self._guide()

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Write the texts of a batch."""
        return alone(self.steps(batch), self.model, self.how, self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = zip(*(batch.column(name).to_pylist() for name in self.prompts.names), strict=True)
        rows = {row: values for row, values in enumerate(texts) if all(values)}
        failed: dict[int, Exception] = {}
        prompts: dict[int, Prompt] = {}
        for row, prompt in zip(rows, self.prompts.fitted(list(rows.values())), strict=True):
            if isinstance(prompt, ValueError):
                failed[row] = prompt
            else:
                prompts[row] = prompt
        limit = self.options.max_new_tokens
        requests = [Request(p.ids, limit, (), self._seed(p.ids), self.guide) for p in prompts.values()]
        found = yield requests
        values: list[str | None] = [None] * len(batch)
        for i, row in enumerate(prompts):
            if (error := found.failures.get(i) or self._incomplete(found.outputs[i])) is not None:
                failed[row] = error
            else:
                values[row] = self._text(found.outputs[i])
        if self.options.json_column == "struct":
            column, unfit = json_types.column(values, output_type(self.options, None))
            failed |= unfit
        else:
            column = pa.array(values, pa.string())
        cut_at = np.zeros(len(batch), np.int32)
        cut_at[[row for row, prompt in prompts.items() if prompt.is_cut and row not in failed]] = self.prompts.room
        return Annotation(column, failures_of(failed), found.tokens, found.padded_tokens, cut_at=cut_at)

    def _guide(self) -> Any:
        """The function that makes a guide for each text, or None."""
        options, network = self.options, self.model.network
        if options.json_schema is not None:
            if network.generation_config.stop_strings:
                raise ModelError(
                    "json_schema cannot be combined with the stop_strings in the model's generation_config.json, "
                    "which could end a text before it is complete; remove them from that file"
                )
            if not lanes.fits(network):
                raise ModelError(
                    f"json_schema needs a model that can be batched continuously; {type(network).__name__} cannot"
                )
            ends = network.generation_config.eos_token_id
            ends = ends if isinstance(ends, list) else [ends]
            size = network.get_output_embeddings().out_features
            return guide.json_texts(self.model.tokenizer, json.dumps(options.schema), size, ends)
        if options.stop:
            tokenizer, strings = self.model.tokenizer, options.stop
            return lambda: guide.StopStrings(tokenizer, strings)
        return None

    def _seed(self, ids: Sequence[int]) -> int:
        """A 63-bit seed from the job's seed and the prompt, so that it does not depend on other rows."""
        content = hashlib.blake2b(json.dumps([self.options.seed, *ids]).encode(), digest_size=8)
        return int.from_bytes(content.digest()) >> 1

    def _incomplete(self, output: Generation | None) -> ValueError | None:
        if self.options.json_schema is None or output is None or output.finished:
            return None
        return ValueError(
            f"the JSON text was not complete after {self.options.max_new_tokens} tokens; raise max_new_tokens"
        )

    def _text(self, output: Generation | None) -> str | None:
        if output is None:
            return None
        text = str(self.model.tokenizer.decode(output.ids, skip_special_tokens=True))
        return guide.cut(text, self.options.stop or ())
