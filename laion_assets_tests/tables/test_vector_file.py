"""npy files: what is written is numpy's format, and what is not ours is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from embedding_reader import EmbeddingReader

from laion_assets.errors import EmbeddingError
from laion_assets.tables.vector_file import VectorWriter, open_vectors


def vectors(rows: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float16)


@pytest.mark.parametrize("parts", [[], [0], [1], [3, 0, 4], [1000, 234_567]])
def test_rows_appended_are_the_rows_that_numpy_reads(tmp_path: Path, parts: list[int]) -> None:
    path = tmp_path / "a.npy"
    with VectorWriter(path, 6) as writer:
        for part in parts:
            writer.append(vectors(part).astype(np.float32))
    expected = np.concatenate([np.zeros((0, 6), np.float16), *map(vectors, parts)])
    for read in (np.load(path), open_vectors(path, 6)):
        np.testing.assert_array_equal(read, expected)
        assert read.dtype == np.float16
    if len(expected):
        assert isinstance(np.load(path, mmap_mode="r"), np.memmap)


def test_the_bytes_are_those_of_numpy_save(tmp_path: Path) -> None:
    with VectorWriter(tmp_path / "a.npy", 6) as writer:
        writer.append(vectors(7))
    np.save(tmp_path / "b.npy", vectors(7))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_embedding_reader_reads_it(tmp_path: Path) -> None:
    with VectorWriter(tmp_path / "a.npy", 6) as writer:
        writer.append(vectors(7))
    with VectorWriter(tmp_path / "b.npy", 6):
        pass
    reader = EmbeddingReader(str(tmp_path), file_format="npy")
    assert (reader.count, reader.dimension) == (7, 6)
    np.testing.assert_array_equal(next(iter(reader(batch_size=10)))[0], vectors(7))


def test_vectors_of_another_width_are_rejected(tmp_path: Path) -> None:
    with VectorWriter(tmp_path / "a.npy", 6) as writer, pytest.raises(EmbeddingError, match=r"a\.npy.*width 6"):
        writer.append(vectors(2, 5))


FOREIGN = {
    "float32": (vectors(4).astype(np.float32), "float32"),
    "another width": (vectors(4, 5), "width 5"),
    "Fortran order": (np.asfortranarray(vectors(4)), "Fortran"),
    "one axis": (vectors(4)[0], "shape"),
    "pickled objects": (np.array([[{}] * 6], dtype=object), "pickled"),
    "big-endian": (vectors(4).astype(">f2"), ">f2"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_invalid_file_is_rejected_by_name(tmp_path: Path, kind: str) -> None:
    array, message = FOREIGN[kind]
    np.save(tmp_path / "img_emb_3.npy", array)
    with pytest.raises(EmbeddingError, match=rf"img_emb_3\.npy.*{message}"):
        open_vectors(tmp_path / "img_emb_3.npy", 6)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-2], lambda c: c + b"\0\0", lambda c: c[:40], lambda c: b"", lambda c: b"x" * 200]
)
def test_damaged_file_is_rejected_by_name(tmp_path: Path, damage) -> None:
    path = tmp_path / "img_emb_3.npy"
    np.save(path, vectors(4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EmbeddingError, match=r"img_emb_3\.npy"):
        open_vectors(path, 6)


def test_file_of_an_aborted_write_is_rejected(tmp_path: Path) -> None:
    def killed_midway() -> None:
        with VectorWriter(tmp_path / "a.npy", 6) as writer:
            writer.append(vectors(3))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killed_midway()
    with pytest.raises(EmbeddingError, match=r"a\.npy"):
        open_vectors(tmp_path / "a.npy", 6)
