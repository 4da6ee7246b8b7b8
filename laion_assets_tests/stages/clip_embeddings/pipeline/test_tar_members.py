"""The members of a tar, as `tarfile` finds them."""

import io
import mmap
import tarfile
from pathlib import Path

import pytest

from laion_assets.stages.clip_embeddings.pipeline.tar_members import (
    TarMember,
    UnexpectedMemberError,
    group_samples,
    list_members,
)

SUFFIXES = frozenset(("jpg", "json", "txt"))
CONTENTS = {"000.jpg": b"x" * 1_000, "000.json": b"{}", "000.txt": b"", "001.jpg": b"y" * 512, "001.txt": b"a" * 513}


def write_tar(path: Path, names: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def found(path: Path) -> list[TarMember]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return list_members(path, mapped)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("names", [CONTENTS, {}, {"n" * 120 + ".jpg": b"long"}, {"ü.jpg": b"not ascii"}])
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int, names: dict[str, bytes]) -> None:
    if kind == tarfile.USTAR_FORMAT and any(len(name) > 100 for name in names):
        names = {"folder/" + "n" * 90 + ".jpg": b"with a prefix"}
    path = write_tar(tmp_path / "a.tar", names, kind)
    with tarfile.open(path) as tar:
        expected = [TarMember(member.name, member.offset_data, member.size) for member in tar]
    assert found(path) == expected
    assert [path.read_bytes()[member.offset :][: member.size] for member in expected] == list(names.values())


def test_a_truncated_tar_is_refused_as_tarfile_does(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(tarfile.TarError):
        found(path)


def test_members_of_one_sample_stand_together() -> None:
    samples = group_samples([TarMember(name, 0, len(content)) for name, content in CONTENTS.items()], SUFFIXES)
    assert [(sample.key, list(sample.members)) for sample in samples] == [
        ("000", ["jpg", "json", "txt"]),
        ("001", ["jpg", "txt"]),
    ]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["a.jpg", "a.exe"], "unexpected member a.exe"),
        (["a.jpg", "a.jpg"], "duplicate member a.jpg"),
        (["a.jpg", "b.jpg", "a.txt"], "duplicate member a.txt"),
    ],
)
def test_other_members_are_named(names: list[str], named: str) -> None:
    with pytest.raises(UnexpectedMemberError, match=named):
        group_samples([TarMember(name, 0, 0) for name in names], SUFFIXES)
