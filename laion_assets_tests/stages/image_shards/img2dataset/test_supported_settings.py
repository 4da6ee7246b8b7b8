"""Settings that img2dataset cannot honour are errors, never ignored; the default engine's partitions stay complete."""

import subprocess
import sys
from dataclasses import replace

import pytest

from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.errors import SettingError
from laion_assets.stages.image_shards.img2dataset.supported_settings import UNSUPPORTED
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.status import settings_digest

OTHER_VALUES = {
    "robots_txt": True,
    "requests_per_host": 1,
    "requests_per_address": 1,
    "max_retry_after_s": 1.0,
    "host_wait_s": 1.0,
    "idle_connections": 0,
    "max_bytes_in_flight": 300_000_000,
    "decode_cpu_s": 1.0,
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_setting_without_a_counterpart_is_refused_with_this_engine_only(name):
    changed = {name: OTHER_VALUES[name]}
    if name != "decode_cpu_s":
        changed = {"fetch": FetchPolicy(**changed)}
    ImageSettings(**changed)
    with pytest.raises(
        SettingError, match=rf"images\.engine is img2dataset.*images\.(fetch\.)?{name} is .*laion_assets"
    ):
        ImageSettings(engine="img2dataset", **changed)


def test_files_with_personal_exif_are_kept_only_if_the_settings_allow_it():
    with pytest.raises(SettingError, match=r"images\.keep_personal_exif is false"):
        ImageSettings(engine="img2dataset", skip_reencode=True)
    ImageSettings(engine="img2dataset", skip_reencode=True, keep_personal_exif=True)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_datasets_can_use_it(name):
    replace(BUILT_IN[name].images, engine="img2dataset")


def test_shards_of_the_other_engine_are_stale():
    other = replace(SAMPLE, images=replace(SAMPLE.images, engine="img2dataset"))
    assert settings_digest(other, "image_shards") != settings_digest(SAMPLE, "image_shards")
    assert settings_digest(other, "dedup_parquet") == settings_digest(SAMPLE, "dedup_parquet")


def test_code_location_and_the_default_engine_do_not_import_img2dataset():
    code = """
import sys
import laion_assets.definitions, laion_assets.stages.image_shards.build, laion_assets.stages.image_shards.shard.task
print(sorted({"img2dataset", "albumentations", "cv2", "urllib.request"} & set(sys.modules) - before))
"""
    code = "import sys, dagster; before = set(sys.modules)" + code
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
