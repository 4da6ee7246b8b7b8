"""Settings of the embedding stage."""

from dataclasses import dataclass

from laion_assets.errors import SettingError
from laion_assets.settings.checks import torch_device
from laion_assets.settings.field import check_settings, setting


@dataclass(frozen=True)
class EmbeddingSettings:
    """How shards are encoded. The model itself is the dataset's `model`."""

    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one", check=torch_device)
    precision: str = setting(
        "fp32",
        "arithmetic of the encoder: fp32, bf16 or fp16 (the latter two on a GPU)",
        choices=("fp32", "bf16", "fp16"),
    )
    batch_size: int = setting(
        512, "pictures encoded at once; halved when memory runs out", unit="pictures", min=1, max=65_536
    )
    decode_threads: int = setting(0, "threads that decode pictures; 0 means one a core", min=0, max=1_024)
    files_per_run: int = setting(1, "embedding files one Dagster run covers in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "embeddings.")
        if self.precision != "fp32" and self.device == "cpu":
            raise SettingError(
                f"embeddings.precision is {self.precision} and embeddings.device is cpu: use fp32 there, or a GPU."
            )
