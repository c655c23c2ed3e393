"""Where the records of a CSV end, and the streams that bring a range of them to Arrow's parser."""

from __future__ import annotations

import codecs
import io
import re
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from transforms.errors import SourceError

Bytes = npt.NDArray[np.uint8]

# What cannot be parsed apart is kept waiting up to here: a quote that is never closed must not collect a whole file.
MAX_WAITING = 64 << 20


class Escaped(Exception):
    """A backslash before a quote, in a file whose head has none."""


def misplaced_quotes(
    block: Bytes, quotes: int, before: bytes, after: bytes, delimiter: str, quote: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Quotes that neither open a field, close one, nor are doubled inside one.

    A quote may open a field after a delimiter or a line end, close one before one, or be doubled inside one (RFC 4180).

    Args:
        block: bytes of the file.
        quotes: the number of quotes before them.
        before: the byte before them.
        after: the byte after them.
        delimiter: one character or several that count as delimiters.
        quote: the quote.

    Returns:
        Whether each byte is such a quote; whether each byte is inside quotes.
    """
    padded = np.concatenate([np.frombuffer(before, np.uint8), block, np.frombuffer(after, np.uint8)])
    quoted = padded == ord(quote)
    edge = np.isin(padded, np.frombuffer(delimiter.encode() + b"\n\r", np.uint8))
    odd = (quotes + np.cumsum(quoted[1:-1])) % 2 == 1
    opens, closes = quoted[1:-1] & odd, quoted[1:-1] & ~odd
    # A doubled quote closes and opens again: the closing half has a quote after it, the opening half one before.
    return (opens & ~(edge | quoted)[:-2]) | (closes & ~(edge | quoted)[2:]), odd


def record_ends(
    stream: BinaryIO, every: int, block_bytes: int, delimiter: str, quote: str, start: int = 0
) -> list[int]:
    """Byte offsets of record ends, about `every` bytes apart; none at all if a quote is misplaced.

    Args:
        stream: the file, at `start`.
        every: bytes between two record ends.
        block_bytes: bytes looked at together.
        delimiter: between two fields.
        quote: around fields; empty if there is none.
        start: where the stream is.
    """
    cuts: list[int] = []
    offset, quotes, before = start, 0, b"\n"
    block = stream.read(block_bytes)
    while block:
        following = stream.read(block_bytes)
        array = np.frombuffer(block, np.uint8)
        is_end = array == ord("\n")
        if quote:
            wrong, odd = misplaced_quotes(array, quotes, before, following[:1] or b"\n", delimiter, quote)
            if wrong.any():
                return []
            is_end &= ~odd
            quotes += block.count(quote.encode())
        ends = np.flatnonzero(is_end) + offset + 1
        while (i := np.searchsorted(ends, (cuts[-1] if cuts else 0) + every)) < len(ends):
            cuts.append(int(ends[i]))
        offset += len(block)
        before = block[-1:]
        block = following
    return cuts


class Transcoded(io.RawIOBase):
    """Text of any encoding as UTF-8; bytes that are wrong become bytes that are no UTF-8, and with them a bad row.

    Args:
        stream: with a `read`.
        encoding: a name that Python knows.
    """

    def __init__(self, stream: BinaryIO | io.RawIOBase, encoding: str):
        self.stream = stream
        errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self.decoder = codecs.getincrementaldecoder(encoding)(errors)
        self.waiting = b""
        self.ended = False

    def readable(self) -> bool:
        """Always."""
        return True

    # The stub allows any buffer; BufferedReader, which alone reads this, gives a memoryview.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next bytes into the buffer; their number, 0 at the end."""
        while not self.waiting and not self.ended:
            block = self.stream.read(1 << 20) or b""
            self.ended = not block
            try:
                text = self.decoder.decode(block, self.ended)
            except UnicodeDecodeError:
                # Half a character at the end of the file.
                self.decoder.reset()
                text = "\udcff"
            self.waiting = text.encode("utf-8", "surrogatepass")
        out, self.waiting = self.waiting[: len(buffer)], self.waiting[len(buffer) :]
        buffer[: len(out)] = out
        return len(out)


class Range(io.RawIOBase):
    """The next bytes of a stream and then one more record on a line of its own, as a stream.

    Args:
        stream: at the first byte.
        path: of the file, for messages.
        length: bytes; None for all of them.
        end: the last record.
        watched: bytes that must not occur; empty for none.
        together: characters that must not be last in a block: Arrow gets lost between two halves of a doubled quote.
        rewriter: applied to the text of the range; None for none.

    Raises:
        SourceError: while reading: the stream ends too early.
        Escaped: while reading: `watched` occurs.
    """

    def __init__(
        self,
        stream: BinaryIO,
        path: str,
        length: int | None,
        end: bytes,
        watched: bytes,
        together: str,
        rewriter: Rewriter | None,
    ):
        self.stream, self.path, self.left, self.end, self.watched = stream, path, length, end, watched
        self.together, self.rewriter = together.encode(), rewriter
        self.last = b"\n"
        self.ended = False
        self.waiting = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        parts, length = [self.waiting], len(self.waiting)
        while length < size and not self.ended:
            parts.append(self._next(size - length))
            length += len(parts[-1])
        data = parts[1] if len(parts) == 2 and not parts[0] else b"".join(parts)
        stop = size
        if length > size or not self.ended:
            stop = len(data[:size].rstrip(self.together)) or size
        self.waiting = data[stop:]
        return data[:stop]

    def _next(self, size: int) -> bytes:
        size = size if self.rewriter is None else max(size, 1 << 20)
        block = self.stream.read(size if self.left is None else min(size, self.left))
        if not block and self.left:
            raise SourceError(
                f"{self.path} ended {self.left} bytes before its planned end; it was changed while being read"
            )
        if block:
            self.left = None if self.left is None else self.left - len(block)
            if self.watched and (self.watched in block or self.last + block[:1] == self.watched):
                raise Escaped
            self.last = block[-1:]
            return block if self.rewriter is None else self.rewriter.write(block, False)
        self.ended = True
        rest = b"" if self.last in b"\n\r" else b"\n"
        if self.rewriter is not None:
            return self.rewriter.write(rest, True) + self.end
        return rest + self.end


class Rewriter:
    """Text of a dialect with comments or escapes -> the same records as Arrow's parser takes them.

    Arrow has no comments, and it drops every escape character that is not escaped itself, also in a path of Windows.
    Here an escape that stands before an ordinary character is doubled, so that it comes out as it is in the file.

    Args:
        delimiter, quote, escape, comment: of the dialect; empty if there is none.
        escapes_in_quotes_only: whether an escape outside of quotes is an ordinary character.
    """

    def __init__(self, delimiter: str, quote: str, escape: str, comment: str, escapes_in_quotes_only: bool):
        d, q, e, c = (re.escape(text.encode()) for text in (delimiter, quote, escape, comment))
        parts = []
        if q:
            inner = b"[^" + q + e + b"]++" + (b"|" + e + rb"(?:.|\Z)" if e else b"")
            parts.append(b"(?P<quoted>" + q + b"(?:" + inner + b")*+(?P<closed>" + q + b")?)")
        if c:
            parts.append(rb"(?P<comment>(?<![^\n\r])" + c + rb"[^\n\r]*(?:\r\n|\n|\r|\Z))")
        if e:
            parts.append(b"(?P<escape>" + e + (b"" if escapes_in_quotes_only else rb"(?:.|\Z)") + b")")
        self.tokens = re.compile(b"|".join(parts), re.DOTALL)
        kept = b"[" + e + q + (b"" if escapes_in_quotes_only else d + rb"\r\n") + b"]"
        # The pair that stays, or the escape alone.
        self.pairs = re.compile(e + b"(" + kept + b")|" + e, re.DOTALL) if e else None
        self.escape = escape.encode()
        self.in_quotes_only = escapes_in_quotes_only
        self.waiting = b""
        self.open: int | None = None

    def write(self, block: bytes, is_last: bool) -> bytes:
        """The next text that is complete."""
        data = self.waiting + block
        cut = len(data) if is_last or len(data) > MAX_WAITING else _line_start(data, len(data))
        text, self.open = data[:cut], None
        done = self.tokens.sub(self._token, text)
        if self.open is not None and not is_last and len(data) < MAX_WAITING:
            # A quoted field goes on in the next block: wait, from the beginning of its line.
            cut = _line_start(data, self.open)
            done = self.tokens.sub(self._token, data[:cut])
        self.waiting = data[cut:]
        # With an escape, Arrow 25 loses the line end after a NUL at the end of a block, unless the NUL is escaped.
        return done.replace(b"\0", self.escape + b"\0") if self.escape else done

    def _token(self, found: re.Match[bytes]) -> bytes:
        kind = found.lastgroup
        if kind == "comment":
            return b""
        if kind == "escape":
            return self.escape + found[0] if self.in_quotes_only else self._doubled(found[0])
        if kind == "quoted" and found["closed"] is None:
            self.open = found.start()
        return self._doubled(found[0])

    def _doubled(self, text: bytes) -> bytes:
        if self.pairs is None or self.escape not in text:
            return text
        return self.pairs.sub(lambda pair: pair[0] if pair[1] else self.escape * 2, text)


def _line_start(data: bytes, stop: int) -> int:
    """Where the last line that begins before `stop` begins."""
    return max(data.rfind(b"\n", 0, stop), data.rfind(b"\r", 0, stop)) + 1
