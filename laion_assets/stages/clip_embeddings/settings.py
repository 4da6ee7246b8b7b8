"""Settings of the stage `clip_embeddings`."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import torch_device, torch_devices
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError


@dataclass(frozen=True)
class EmbeddingSettings:
    """How shards are encoded. The model itself is the dataset's setting `model`."""

    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto uses a GPU if there is one", check=torch_device)
    devices: tuple[str, ...] = setting(
        (),
        "devices of this machine that each encode a file at the same time, with one process per device: cuda:N, cpu, "
        "or all for every GPU. Empty: only device, in the run's own process",
        check=torch_devices,
    )
    distributor: str = setting(
        "pool",
        "where files are encoded: pool (this machine) or spark (the cluster of spark.master, one Spark task per file)",
        choices=("pool", "spark"),
    )
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
    cpu_threads: int = setting(
        0,
        "torch's threads where the device is a CPU; 0 means one per core, shared among devices, and in Spark "
        "spark.task.cpus. The last bits of a vector may depend on it",
        min=0,
        max=1_024,
    )
    files_per_run: int = setting(
        0,
        "embedding files per Dagster run in a backfill; 0 means 1, and 64 with devices or Spark, where a run encodes "
        "several at the same time",
        min=0,
        max=100_000,
    )

    def __post_init__(self) -> None:
        check_settings(self, "embeddings.")
        if self.precision not in ("auto", "fp32") and "cpu" in (self.device, *self.devices):
            name = "device is cpu" if self.device == "cpu" else "devices contains cpu"
            raise SettingError(
                f"embeddings.precision is {self.precision} and embeddings.{name}. Set the precision to auto or fp32, "
                "or use a GPU."
            )
        if "all" in self.devices and len(self.devices) > 1:
            raise SettingError(
                f"embeddings.devices is {', '.join(self.devices)}: all already means every GPU. Set it to all, or name "
                "the devices."
            )
        if self.distributor == "spark" and self.devices:
            raise SettingError(
                f"embeddings.distributor is spark and embeddings.devices is {', '.join(self.devices)}. Spark assigns "
                "the GPUs (spark.task.resource.gpu.amount): leave devices empty, or set distributor to pool."
            )
        if self.distributor == "spark" and ":" in self.device:
            raise SettingError(
                f"embeddings.distributor is spark and embeddings.device is {self.device}. Spark assigns the number of "
                "the GPU: set device to auto, cuda or cpu."
            )

    @property
    def run_size(self) -> int:
        """How many files one Dagster run covers at most."""
        at_once = self.devices or self.distributor == "spark"
        return self.files_per_run or (_FILES_OF_PARALLEL_RUN if at_once else 1)


_FILES_OF_PARALLEL_RUN = 64
"""Files per run where a run encodes several at the same time: enough for all devices of a machine."""
