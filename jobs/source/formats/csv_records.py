"""Finds the ends of CSV records, and prepares the bytes of a range of records for Arrow's parser."""

from __future__ import annotations

import codecs
import io
import re
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from transforms.errors import SourceError

Bytes = npt.NDArray[np.uint8]

# A quoted field that continues in the next block is buffered up to this size, so that a quote that is never closed does
# not load the whole file into memory.
MAX_WAITING = 64 << 20


class Escaped(Exception):
    """A backslash before a quote, in a file with no such quote in its head."""


def misplaced_quotes(
    block: Bytes, quotes: int, before: bytes, after: bytes, delimiter: str, quote: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Find quotes that do not open or close a field and are not doubled inside one.

    A quote may open a field after a delimiter or a line end, close a field before a delimiter or a line end, or be
    doubled inside a field (RFC 4180).

    Args:
        block: bytes of the file.
        quotes: the number of quotes before the block.
        before: the byte before the block.
        after: the byte after the block.
        delimiter: one or more characters that count as delimiters.
        quote: the quote character.

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
        block_bytes: bytes that are read at a time.
        delimiter: between two fields.
        quote: around fields; empty if there is none.
        start: byte offset of the stream.
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
    """A stream of text in any encoding, converted to UTF-8.

    Bytes that are invalid in that encoding become invalid UTF-8, so that the row with them becomes a bad row.

    Args:
        stream: an object with a `read` method.
        encoding: an encoding name of Python.
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

    # The type stub allows any buffer, but only BufferedReader calls this, with a memoryview.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Write the next bytes to the buffer; returns their number, 0 at the end."""
        while not self.waiting and not self.ended:
            block = self.stream.read(1 << 20) or b""
            self.ended = not block
            try:
                text = self.decoder.decode(block, self.ended)
            except UnicodeDecodeError:
                # The file ends in the middle of a character.
                self.decoder.reset()
                text = "\udcff"
            self.waiting = text.encode("utf-8", "surrogatepass")
        out, self.waiting = self.waiting[: len(buffer)], self.waiting[len(buffer) :]
        buffer[: len(out)] = out
        return len(out)


class Range(io.RawIOBase):
    """A stream of the next bytes of a file, followed by one additional record on its own line.

    Args:
        stream: the file, at the first byte of the range.
        path: path of the file, for messages.
        length: number of bytes; None for all.
        end: the additional record.
        watched: bytes that must not occur; empty for none.
        together: characters that must not be last in a block, because Arrow misreads a doubled quote that is split over
            two blocks.
        rewriter: applied to the text of the range; None for none.

    Raises:
        SourceError: while reading, if the stream ends too early.
        Escaped: while reading, if `watched` occurs.
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
        """The next bytes, at most `size`; empty at the end."""
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
    """Rewrites text with comments or escapes so that Arrow parses the same records.

    Arrow does not support comments, and it drops every escape character that is not escaped itself, for example in a
    Windows path. Here an escape before an ordinary character is doubled, so that the value is the same as in the file.

    Args:
        delimiter, quote, escape, comment: characters of the dialect; empty if there is none.
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
        # Either an escape with a character that it escapes, which is kept, or an escape before an ordinary character.
        self.pairs = re.compile(e + b"(" + kept + b")|" + e, re.DOTALL) if e else None
        self.escape = escape.encode()
        self.in_quotes_only = escapes_in_quotes_only
        self.waiting = b""
        self.open: int | None = None

    def write(self, block: bytes, is_last: bool) -> bytes:
        """Add a block; returns the rewritten text that is complete."""
        data = self.waiting + block
        cut = len(data) if is_last or len(data) > MAX_WAITING else _line_start(data, len(data))
        text, self.open = data[:cut], None
        done = self.tokens.sub(self._token, text)
        if self.open is not None and not is_last and len(data) < MAX_WAITING:
            # A quoted field continues in the next block, so the text from the beginning of its line is kept for then.
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
    """Offset of the last line start before `stop`."""
    return max(data.rfind(b"\n", 0, stop), data.rfind(b"\r", 0, stop)) + 1
