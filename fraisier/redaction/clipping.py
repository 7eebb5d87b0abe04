"""Texts that are cut before anybody could take the secrets out of them: the cut is marked, so that the redactor finds
halves beside it."""

from __future__ import annotations

import codecs

CUT = "…"
"""Stands where a text was cut off."""


def clip(text: str, chars_max: int) -> str:
    """Return the beginning of `text`, at most `chars_max` characters and a mark where the rest was cut off."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}{CUT}"


def clip_start(text: str, chars_max: int) -> str:
    """Return the end of `text`, at most `chars_max` characters after a mark where what came before was cut off."""
    return text if len(text) <= chars_max else f"{CUT}{text[len(text) - chars_max :]}"


def text_of(raw: bytes, *, cut_before: bool = False, cut_after: bool = False) -> str:
    """Return a piece of UTF-8 as text, with a mark on each side where it was cut. What is left of a character at a cut is
    dropped; bytes that are no UTF-8 are replaced."""
    if cut_before:
        whole = next((at for at, byte in enumerate(raw[:4]) if byte & 0xC0 != 0x80), 0)
        raw = raw[whole:]
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(raw, final=not cut_after)
    return f"{CUT if cut_before else ''}{text}{CUT if cut_after else ''}"


def end_of(raw: bytes, bytes_max: int) -> str:
    """Return the last part of some output as text, at most `bytes_max` bytes of it, with a mark where it was cut."""
    return text_of(raw[-bytes_max:], cut_before=len(raw) > bytes_max)
