"""JSON files of any size, read value by value: each with the byte at which it begins, to be read again from there.

Bytes are decoded as Latin-1 to find where a value ends, since every byte is then one character; a value with other
characters than ASCII is parsed again in UTF-8.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from formats.base import DataError
from formats.files import reading
from formats.parsing import MAX_BYTES

CHUNK = 1 << 16  # bytes read at a time; more for a value that needs them
ONE_VALUE = 1 << 12  # bytes read at first where one value is asked for
BOM = "\xef\xbb\xbf"
DECODER = json.JSONDecoder()


def list_items(path: Path) -> Iterator[tuple[int, Any]]:
    """Offset and value of each item of a file that is one JSON list. Raises DataError."""
    with _opened(path) as file:
        yield from _Stream(file, path, chunk=CHUNK).items()


def object_items(path: Path, keys: Collection[str]) -> Iterator[tuple[str, int, Any]]:
    """Key, offset and value of each item of these lists in a file that is one JSON object. Raises DataError."""
    with _opened(path) as file:
        stream = _Stream(file, path, chunk=CHUNK)
        stream.expect("{")
        while stream.next_char() != "}":
            _, key = stream.value()
            stream.expect(":")
            if isinstance(key, str) and key in keys and stream.next_char() == "[":
                yield from ((key, offset, value) for offset, value in stream.items())
            else:
                stream.value()
            if stream.next_char() != "}":
                stream.expect(",")


def first_char(path: Path) -> str:
    """The first character of a file that is no space: [ for a JSON list, { for an object. Raises DataError."""
    with _opened(path) as file:
        return _Stream(file, path).next_char()


def value_at(path: Path, offset: int) -> Any:
    """The value that begins at a byte offset. Raises DataError."""
    with _opened(path) as file:
        return _Stream(file, path, offset).value()[1]


def _opened(path: Path) -> BinaryIO:
    with reading(path):
        return path.open("rb")


class _Stream:
    """A position in a JSON file, of which what is not yet parsed is in memory."""

    def __init__(self, file: BinaryIO, path: Path, offset: int = 0, chunk: int = ONE_VALUE):
        self.file, self.path, self.chunk = file, path, chunk
        self.text, self.start, self.at, self.ended = "", offset, 0, False  # text begins at the byte `start`
        file.seek(offset)
        self._read_more(max(self.chunk, len(BOM)))
        if offset == 0 and self.text.startswith(BOM):
            self.at = len(BOM)

    def next_char(self) -> str:
        """The next character that is no space, not consumed; empty at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or self.ended:
                return self.text[self.at:self.at + 1]
            self._read_more(self.chunk)

    def expect(self, char: str) -> None:
        """Consume this character. Raises DataError where another one follows."""
        if self.next_char() != char:
            raise DataError(f"{self.path}: broken JSON: expected {char} at byte {self.start + self.at}")
        self.at += 1

    def items(self) -> Iterator[tuple[int, Any]]:
        """Offset and value of each item of the list that follows."""
        self.expect("[")
        is_first = True
        while not (is_first and self.next_char() == "]"):
            yield self.value()
            is_first = False
            if self.next_char() == "]":
                break
            self.expect(",")
        self.at += 1

    def value(self) -> tuple[int, Any]:
        """Offset and value of what follows, consumed."""
        self.next_char()
        self.text, self.start, self.at = self.text[self.at:], self.start + self.at, 0
        while True:
            try:
                value, end = DECODER.raw_decode(self.text)
                if end < len(self.text) or self.ended:  # a number may go on in the next chunk
                    break
            except json.JSONDecodeError as error:
                if self.ended:
                    raise DataError(f"{self.path}: broken JSON: {error.msg} at byte {self.start + error.pos}") from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
                raise self._broken(error) from None
            if len(self.text) > MAX_BYTES:
                raise DataError(f"{self.path}: broken JSON, or a value of more than {MAX_BYTES / 1e6:.0f} MB, at byte "
                                f"{self.start}")
            self._read_more(max(self.chunk, len(self.text)))
        text, offset, self.at = self.text[:end], self.start, end
        if not text.isascii():
            try:
                value = json.loads(text.encode("latin-1"))
            except ValueError as error:  # not UTF-8
                raise self._broken(error) from None
        return offset, value

    def _broken(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: broken JSON at byte {self.start}: {str(error).splitlines()[0]}")

    def _read_more(self, size: int) -> None:
        with reading(self.path):
            chunk = self.file.read(size)
        self.ended = len(chunk) < size
        self.text += chunk.decode("latin-1")
