"""Settings of the embedding stage."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import torch_device
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError


@dataclass(frozen=True)
class EmbeddingSettings:
    """How shards are encoded. The model itself is the dataset's `model`."""

    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one", check=torch_device)
    precision: str = setting(
        "auto",
        "precision of the encoder: fp32, bf16 or fp16; auto: fp32 on a CPU, fp16 on a GPU",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    batch_size: int = setting(
        512, "images encoded at once; halved when memory runs out", unit="images", min=1, max=65_536
    )
    decode_threads: int = setting(0, "threads that decode images; 0 means one per core", min=0, max=1_024)
    reader_processes: int = setting(
        -1,
        "processes that verify and tokenize shards; -1: none on a CPU, one per 5 cores with a GPU",
        min=-1,
        max=1_024,
    )
    files_per_run: int = setting(1, "embedding files one Dagster run covers in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "embeddings.")
        if self.precision not in ("auto", "fp32") and self.device == "cpu":
            raise SettingError(
                f"embeddings.precision is {self.precision} and embeddings.device is cpu. Set the precision to auto or "
                "fp32, or use a GPU."
            )
