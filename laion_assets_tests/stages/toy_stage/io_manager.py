"""The IO manager of the toy stage."""

from laion_assets.orchestration.partition_io import PartitionIOManager
from laion_assets_tests.stages.toy_stage.stage import CAPTION_LANGUAGES


class CaptionLanguagesIOManager(PartitionIOManager):
    """Returns `CaptionLanguages`."""

    asset = CAPTION_LANGUAGES
