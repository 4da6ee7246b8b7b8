"""The check of a shard compares its index with its tar."""

import pytest

from laion_assets.stages.image_shards.check import find_problems
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda index: index, []),
        (lambda index: index.replace(b"jpg 512 ", b"jpg 1024 "), ["00000.idx is not the index"]),
        (lambda index: None, ["00000.idx is not the index"]),
    ],
)
def test_an_altered_or_deleted_index_is_a_problem(tmp_path, change, expected) -> None:  # type: ignore[no-untyped-def]
    with running({"/0.jpg": answer(jpeg()), "/1.jpg": answer(jpeg(90, 70))}) as site:
        dataset = dataset_of(tmp_path, [(site.url(f"/{n}.jpg"), "") for n in range(2)], site.resolve)
        ShardTask(dataset, 0).run()
    store = Store.of(dataset)
    path = "image_shards/00000.idx"
    changed = change(store.read_bytes(path))
    store.delete(path)
    if changed is not None:
        store.write_bytes(path, changed)
    problems = list(find_problems(dataset, store, 0, lambda: None))
    assert [problem.split("image_shards/")[1].split(" of ")[0] for problem in problems] == expected
