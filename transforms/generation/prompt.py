"""Prompts from a template over columns and the model's chat template, as tokens that fit the model's window."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from transforms.checkpoint.files import first_line
from transforms.errors import ModelError
from transforms.model import Model
from transforms.template import Chat

# Placeholder of a column's text while the chat template is rendered: the column's number between two private-use
# characters.
MARK = re.compile("\ue0f0(\\d+)\ue0f1")


@dataclass(frozen=True)
class Prompt:
    """Tokens of a prompt, special tokens included, and whether one of its texts was cut."""

    ids: list[int]
    is_cut: bool = False


class Prompts:
    """Turns texts into prompts.

    Args:
        model: the model; its tokenizer, chat template and window are used.
        parts: a template, as returned by `template.parse`.
        room: maximum tokens of a prompt.
        system: the system message; put before the prompt if the chat template does not support one.
        chat: use of the tokenizer's chat template: auto (if there is one), always or never.
        cut: whether the longest text of a prompt that is too long is cut at its end; otherwise the prompt is an error.

    Raises:
        ModelError: `chat` is always and there is no chat template, or the template leaves no room for a text.
    """

    def __init__(
        self,
        model: Model,
        parts: Sequence[str],
        room: int,
        system: str | None = None,
        chat: Chat = "auto",
        cut: bool = True,
    ):
        self.tokenizer: Any = model.tokenizer
        self.names, self.room, self.cut = list(dict.fromkeys(parts[1::2])), room, cut
        has_template = bool(getattr(self.tokenizer, "chat_template", None))
        if chat == "always" and not has_template:
            raise ModelError("chat is 'always', and this tokenizer has no chat template; choose auto or never")
        self.chat = has_template and chat != "never"
        marked = "".join(f"\ue0f0{self.names.index(part)}\ue0f1" if i % 2 else part for i, part in enumerate(parts))
        # Even parts are the template's own texts, odd parts are numbers of columns.
        self.parts = MARK.split(self._rendered(marked, system))
        self.special = re.compile("|".join(map(re.escape, self._special())) or r"(?!)")
        if (least := len(self._ids([""] * len(self.names)))) >= room:
            raise ModelError(
                f"the prompt has {least} tokens without any text, and max_new_tokens leaves room for "
                f"{max(0, room)}; shorten the prompt or lower max_new_tokens"
            )

    def __call__(self, rows: Sequence[Sequence[str]]) -> list[list[int] | ValueError]:
        """Tokens of each row's prompt, including special tokens; an error for each prompt that is too long.

        Args:
            rows: the texts of each row, in the order of `names`.
        """
        return [found if isinstance(found, ValueError) else found.ids for found in self.fitted(rows)]

    def fitted(self, rows: Sequence[Sequence[str]]) -> list[Prompt | ValueError]:
        """Each row's prompt; an error for each prompt that is too long and may not be cut.

        Args:
            rows: the texts of each row, in the order of `names`.
        """
        plain = [i for i, texts in enumerate(rows) if not self._commands(texts)]
        together = self._encode([self._text(rows[i]) for i in plain], special=True) if plain else []
        encoded = dict(zip(plain, together, strict=True))
        return [self._fitted(list(texts), encoded.get(i)) for i, texts in enumerate(rows)]

    def _fitted(self, texts: list[str], ids: list[int] | None) -> Prompt | ValueError:
        ids = self._ids(texts) if ids is None else ids
        whole = len(ids)
        while len(ids) > self.room:
            if not self.cut:
                return ValueError(f"the prompt has {whole} tokens, and the window has room for {self.room}")
            pieces = [self._encode([text], special=False)[0] for text in texts]
            longest = max(range(len(texts)), key=lambda i: len(pieces[i]))
            kept = len(pieces[longest]) - (len(ids) - self.room)
            texts[longest] = self._head(texts[longest], kept)
            ids = self._ids(texts)
        return Prompt(ids, whole > self.room)

    def _head(self, text: str, tokens: int) -> str:
        """The beginning of a text, with `tokens` tokens, or fewer if the last one is only a part of a character."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        return text[: offsets[tokens][0]] if tokens > 0 else ""

    def _ids(self, texts: Sequence[str]) -> list[int]:
        """Tokens of one prompt; the names of special tokens in a column's text are tokenized as ordinary text."""
        if not self._commands(texts):
            return self._encode([self._text(texts)], special=True)[0]
        ids: list[int] = []
        for i, part in enumerate(self.parts):
            piece = texts[int(part)] if i % 2 else part
            ids += self._encode([piece], special=i % 2 == 0, start=i == 0)[0]
        return ids

    def _encode(self, texts: Iterable[str], special: bool, start: bool = True) -> list[list[int]]:
        """Tokens of texts.

        Args:
            texts: the texts to encode.
            special: whether names of special tokens in the texts become special tokens.
            start: whether the tokenizer adds its tokens at both ends; never with a chat template, which contains them.
        """
        return self.tokenizer(
            list(texts),
            add_special_tokens=special and start and not self.chat,
            split_special_tokens=not special,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]

    def _text(self, texts: Sequence[str]) -> str:
        return "".join(texts[int(part)] if i % 2 else part for i, part in enumerate(self.parts))

    def _commands(self, texts: Sequence[str]) -> bool:
        return any(self.special.search(text) for text in texts)

    def _special(self) -> list[str]:
        tokens = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return sorted({*tokens, *self.tokenizer.all_special_tokens}, key=len, reverse=True)

    def _rendered(self, prompt: str, system: str | None) -> str:
        """The prompt in the chat template, with the system message."""
        both = f"{system}\n\n{prompt}" if system else prompt
        if not self.chat:
            return both
        user = {"role": "user", "content": prompt}
        if system:
            try:
                rendered = self._chat([{"role": "system", "content": system}, user])
            except TemplateError:
                # Some chat templates, such as Gemma's, raise an error for a system message.
                rendered = ""
            if system in rendered:
                return rendered
        try:
            return self._chat([{"role": "user", "content": both}])
        except TemplateError as error:
            raise ModelError(
                f"the tokenizer's chat template cannot be used ({first_line(error)}); set chat: never, or copy the "
                "template again from where the model came from"
            ) from error

    def _chat(self, messages: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
