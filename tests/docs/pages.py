"""Takes a page of the documentation apart: its sections, with the blocks that stand in each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,4} (.*)$", re.MULTILINE)
_EXIT = re.compile(r"\s# exit (\d+)\b")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str

    @property
    def commands(self) -> list[Command]:
        """The lines to type; of a `cron` block those that cron would run, in the home directory."""
        if self.language == "cron":
            lines = [re.sub(r"^(@\w+|(\S+ +){5}) *", "", line) for line in self.text.splitlines()]
            return [Command(f"(cd && {line})", 0) for line in lines]
        return commands(self.text) if self.language == "sh" else []


@dataclass(frozen=True)
class Section:
    """What stands under one heading, up to the next one."""

    heading: str
    blocks: tuple[Block, ...]

    @property
    def commands(self) -> list[Command]:
        return [command for block in self.blocks for command in block.commands]


@dataclass(frozen=True)
class Command:
    """A line as a person types it, and the exit code that the page promises."""

    text: str
    code: int


def commands(block: str) -> list[Command]:
    """Return the lines of a block; one that ends with a backslash goes on in the next. Comments alone are none."""
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return [
        Command(line, int(found[1]) if (found := _EXIT.search(line)) else 0)
        for line in lines
        if not line.lstrip().startswith("#")
    ]


def text_of(page: str) -> str:
    """Return the whole page."""
    return (DOCS / page).read_text(encoding="utf-8")


def sections(page: str) -> list[Section]:
    """Return the sections of a page that hold blocks, in their order. Headings inside of blocks are none."""
    text = text_of(page)
    fences = [found.span() for found in _FENCE.finditer(text)]
    heads = [
        found
        for found in _HEADING.finditer(text)
        if not any(start <= found.start() < end for start, end in fences)
    ]
    made = []
    for at, head in enumerate(heads):
        end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
        inside = tuple(Block(*found.groups()) for found in _FENCE.finditer(text[head.end() : end]))
        if inside:
            made.append(Section(head[1], inside))
    return made


def prose(page: str) -> Iterator[str]:
    """Yield each piece of inline code outside of the blocks."""
    for found in re.finditer(r"`([^`\n]+(?:\n[^`\n]+)?)`", _FENCE.sub("", text_of(page))):
        yield " ".join(found[1].split())
