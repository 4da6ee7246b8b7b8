"""Files for adoption, made by the programs themselves: img2dataset over a local site, clip-retrieval over its tars."""

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets_tests.stages.clip_embeddings.small_dataset import Members, model_name, small_dataset
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import dedup_table
from laion_assets_tests.stages.image_shards.site import answer, running

SHARDS, ROWS = 4, 15
LAYOUT = Layout(parquet_files=1, shards=SHARDS, embedding_files=1, rows_per_shard=50)
PAGES = {f"/{number}.jpg": answer(jpeg(90 + number, 80, number)) for number in range(SHARDS * ROWS)} | {
    "/7.jpg": answer(b"<html>not found</html>"),
    "/20.jpg": answer(b"", "500 Internal Server Error"),
    "/33.jpg": answer(jpeg(), "200 OK", "X-Robots-Tag: noai"),
    "/34.jpg": answer(b"", "404 Not Found"),
}
REASONS = {"undecodable": 1, "http_5xx": 1, "opted_out": 1, "http_404": 1}
"""Rows of the site without an image, by our reasons."""
QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "OPENCV_LOG_LEVEL": "ERROR"}
DOWNLOAD = """
import sys
from img2dataset import download
if __name__ == "__main__":
    source, target, captions, columns = sys.argv[1:]
    download(url_list=source, output_folder=target, input_format="parquet", url_col="URL",
             caption_col="TEXT" if captions else None, output_format="webdataset", processes_count=1, thread_count=8,
             image_size=64, timeout=5, save_additional_columns=columns.split(",") if columns else None)
"""
INFERENCE = """
import sys
from laion_assets_tests.stages.clip_embeddings.small_dataset import register
register()
from clip_retrieval.clip_inference.main import main
model, output, tars, count, metadata = sys.argv[1:]
main(input_dataset=tars, output_folder=output, input_format="webdataset", clip_model=model,
     enable_metadata=metadata == "metadata", use_jit=False, batch_size=16, num_prepro_workers=0, write_batch_size=1000,
     output_partition_count=int(count), distribution_strategy="sequential", enable_wandb=False)
"""


def rows_of_site(port: int) -> list[tuple[str, str]]:
    """(URL, caption) of every page, with captions of many kinds."""
    return [
        (f"http://127.0.0.1:{port}{path}", f"caption of {path} é 星" if number % 10 else "")
        for number, path in enumerate(PAGES)
    ]


@functools.cache
def img2dataset_shards(captions: bool = True, columns: str = "") -> tuple[Path, list[tuple[str, str]]]:
    """The output folder of img2dataset over four parquet files, and their rows. Copy it before changing it."""
    folder = Path(tempfile.mkdtemp(prefix="laion-assets-test-"))
    (folder / "rows").mkdir()
    (folder / "download.py").write_text(DOWNLOAD)
    with running(PAGES) as site:
        rows = rows_of_site(site.port)
        for shard in range(SHARDS):
            pq.write_table(dedup_table(rows).slice(shard * ROWS, ROWS), folder / "rows" / f"{shard}.parquet")
        subprocess.run(
            [sys.executable, folder / "download.py", folder / "rows", folder / "shards", "yes" * captions, columns],
            check=True, capture_output=True, env={**os.environ, **QUIET}, timeout=300,
        )  # fmt: skip
    return folder / "shards", rows


@functools.cache
def clip_retrieval_embeddings(files: int = 1, metadata: bool = True, first: int = 0) -> Path:
    """The output folder of clip-retrieval over the tars from `first` on, as `files` files. Copy it before a change."""
    return run_clip_retrieval(img2dataset_shards()[0], files, metadata, first)


def run_clip_retrieval(shards: Path, files: int = 1, metadata: bool = True, first: int = 0) -> Path:
    """Run clip-retrieval's inference over the tars in a folder and return its output folder."""
    output = Path(tempfile.mkdtemp(prefix="laion-assets-test-")) / "embeddings"
    tars = f"{shards}/{{{first:05d}..{SHARDS - 1:05d}}}.tar"
    arguments = [model_name(), str(output), tars, str(files), "metadata" if metadata else ""]
    done = subprocess.run([sys.executable, "-c", INFERENCE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def own_copy(folder: Path, target: Path) -> Path:
    """Return a copy of a folder, to be changed."""
    return shutil.copytree(folder, target)


def change_tar(path: Path, change: Callable[[Members], Members]) -> None:
    """Rewrite a tar; `change` maps its members."""
    with tarfile.open(path) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as archive:
        for name, content in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def empty_dataset(root: Path, embedding_files: int = 1) -> Dataset:
    """A dataset of four shards without any partition."""
    layout = replace(LAYOUT, embedding_files=embedding_files)
    return replace(small_dataset(root), name="adopting", layout=layout)
