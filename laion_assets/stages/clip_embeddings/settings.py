"""Settings of the stage `clip_embeddings`."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import torch_device
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError


@dataclass(frozen=True)
class EmbeddingSettings:
    """How shards are encoded. The model itself is the dataset's setting `model`."""

    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto uses a GPU if there is one", check=torch_device)
    precision: str = setting(
        "auto",
        "precision of the encoder: auto, fp32, bf16 or fp16; auto is fp32 on a CPU and fp16 on a GPU",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    batch_size: int = setting(
        512, "images per batch; halved if the GPU's memory does not suffice", unit="images", min=1, max=65_536
    )
    decode_threads: int = setting(0, "threads that decode images; 0 means one per core", min=0, max=1_024)
    reader_processes: int = setting(
        -1,
        "processes that verify and tokenize shards; -1 means none on a CPU, and one per 5 cores with a GPU",
        min=-1,
        max=1_024,
    )
    files_per_run: int = setting(1, "embedding files per Dagster run in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "embeddings.")
        if self.precision not in ("auto", "fp32") and self.device == "cpu":
            raise SettingError(
                f"embeddings.precision is {self.precision} and embeddings.device is cpu. Set the precision to auto or "
                "fp32, or use a GPU."
            )
