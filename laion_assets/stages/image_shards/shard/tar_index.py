"""The index of a shard's tar: the offset of each member, in the format of DALI's webdataset reader (`wds2idx`).

DALI and NeMo Curator read it instead of scanning the tar. It also allows to read single samples.

    v1.2 N
    jpg OFFSET SIZE NAME json OFFSET SIZE NAME txt OFFSET SIZE NAME
    ...

A text file with one line for each of the N samples, with its members in the order of the tar. OFFSET and SIZE are those
of a member's content, in bytes; its header is the 512 bytes before. The extension follows the first dot of the name.
"""

import itertools
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from laion_assets.errors import IntegrityError
from laion_assets.stages.image_shards.shard.sample_tar import NAME, SIZE, member_header

SUFFIX = ".idx"
"""Suffix of the index file. It is derived from the tar, so it is not part of the content digest: a shard that was
committed without an index stays complete."""
VERSION = "v1.2"
_MEMBER = re.compile(r"(\S+) (\d{1,18}) (\d{1,18}) (\S+)", re.ASCII)


@dataclass(frozen=True)
class Member:
    """One member of a tar: its name, and the offset and size of its content, in bytes."""

    name: str
    offset: int
    size: int

    @property
    def sample(self) -> str:
        """The key of the member's sample."""
        return self.name.partition(".")[0]

    @property
    def extension(self) -> str:
        """The member's part of the sample: `jpg`, `json` or `txt`."""
        return self.name.partition(".")[2]


def build_index(tar: IO[bytes]) -> str:
    """Return the index of an open tar of samples (`sample_tar`), from its headers only.

    Raises IntegrityError for a damaged or truncated tar, and for a member that does not belong to a sample.
    """
    samples = [list(group) for _, group in itertools.groupby(_read_members(tar), key=lambda member: member.sample)]
    return format_index(samples)


def format_index(samples: list[list[Member]]) -> str:
    """Return the index of these samples, each with its members in the order of the tar."""
    return "".join(line + "\n" for line in (f"{VERSION} {len(samples)}", *map(_format_line, samples)))


def write_index(tar: Path, index: Path, text: str | None = None) -> None:
    """Write the index of a tar file: `text` if it is known. Raises IntegrityError as `build_index`, and OSError."""
    if text is None:
        with tar.open("rb") as file:
            text = build_index(file)
    index.write_text(text, encoding="ascii")


def read_index(text: str) -> list[list[Member]]:
    """Return the samples of an index, each with its members. Raises IntegrityError for an invalid index."""
    return list(iterate_index(text))


def iterate_index(text: str) -> Iterator[list[Member]]:
    """Yield the members of each sample. Raises IntegrityError for an invalid index, for a wrong line when it comes."""
    header, *lines = text.split("\n")
    if not lines or lines.pop():
        raise IntegrityError("The tar index ends within a line.")
    if header != f"{VERSION} {len(lines)}":
        raise IntegrityError(f"The tar index starts with {header[:40]!r}: expected '{VERSION} {len(lines)}'.")
    for number, line in enumerate(lines, 2):
        yield _read_sample(number, line)


def find_sample(text: str, key: str) -> list[Member]:
    """Return the members of one sample, empty if the index does not have it. Parses a single line.

    Raises IntegrityError if this line is invalid.
    """
    place = text.find(f" {key}.")
    if place < 0:
        return []
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    line = text[start:end] if end >= 0 else text[start:]
    members = _read_sample(text.count("\n", 0, start) + 1, line)
    return members if members[0].sample == key else []


def read_member(tar: IO[bytes], member: Member) -> bytes:
    """Return a member's content, by its offset. Raises IntegrityError if the tar does not have this member there."""
    header_start = member.offset - tarfile.BLOCKSIZE
    if header_start >= 0:
        tar.seek(header_start)
        try:
            found = tarfile.TarInfo.frombuf(tar.read(tarfile.BLOCKSIZE), "ascii", "strict")
        except (tarfile.TarError, ValueError):
            found = None
        if found is not None and (found.name, found.size) == (member.name, member.size):
            content = tar.read(member.size)
            if len(content) == member.size:
                return content
    raise IntegrityError(
        f"The tar has no {member.name} of {member.size} bytes at offset {member.offset}: the index belongs to another "
        "tar. Materialize this shard again."
    )


def _read_members(tar: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a tar with our own headers: 0.14 s for 30,000. The general `tarfile` takes 0.48 s."""
    offset = tar.seek(0)
    while (header := tar.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
        try:
            member = Member(header[NAME].rstrip(b"\0").decode("ascii"), offset + len(header), int(header[SIZE][:11], 8))
            known = header == member_header(member.name, member.size)
        except ValueError:
            known = False
        if not known or not member.extension or member.name.split() != [member.name]:
            raise IntegrityError(
                f"The tar has no member of a sample at offset {offset}: it is damaged, truncated or not from this "
                "stage. Materialize this shard again."
            )
        yield member
        offset = tar.seek(member.size + -member.size % tarfile.BLOCKSIZE, os.SEEK_CUR)


def _format_line(members: Iterable[Member]) -> str:
    return " ".join(f"{member.extension} {member.offset} {member.size} {member.name}" for member in members)


def _read_sample(number: int, line: str) -> list[Member]:
    members = [Member(name, int(offset), int(size)) for _, offset, size, name in _MEMBER.findall(line)]
    if not members or _format_line(members) != line or len({member.sample for member in members}) > 1:
        raise IntegrityError(f"Line {number} of the tar index is not a sample: {line[:200]!r}.")
    return members
