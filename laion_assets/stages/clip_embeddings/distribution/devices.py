"""Choose the devices: those of this machine, and the one that Spark assigned to a task."""

from collections.abc import Sequence

from laion_assets.errors import ModelError

GPU = "gpu"
"""The name of the resource in Spark's configuration: `spark.task.resource.gpu.amount`."""


def find_local_devices(devices: Sequence[str]) -> tuple[str, ...]:
    """Return the devices of `embeddings.devices`, with `all` replaced by every GPU that torch finds.

    Raises ModelError if it finds none.
    """
    if tuple(devices) != ("all",):
        return tuple(devices)
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise ModelError(
            "embeddings.devices is all, and torch finds no GPU on this machine. Leave it empty to use the CPU, or "
            "check the driver (nvidia-smi) and that torch is built for CUDA."
        )
    return tuple(f"cuda:{number}" for number in range(count))


def choose_spark_device(wanted: str, addresses: Sequence[str]) -> str:
    """Return the torch device of a Spark task: `cuda:N` of its GPU address N, or `cpu` if it has none.

    `wanted` is `embeddings.device`: `auto`, `cuda` (a GPU is required) or `cpu`. `addresses` are those that the
    executor's discovery script printed and Spark assigned to the task. Raises ModelError.
    """
    if wanted == "cpu" or (wanted == "auto" and not addresses):
        return "cpu"
    if not addresses:
        raise ModelError(
            f"embeddings.device is {wanted}, and Spark assigned no GPU to the task. Set spark.task.resource.gpu.amount "
            "and spark.executor.resource.gpu.amount in spark.conf, or set embeddings.device to cpu."
        )
    if len(addresses) > 1:
        raise ModelError(
            f"Spark assigned the GPUs {', '.join(addresses)} to one task, which uses one. Set "
            "spark.task.resource.gpu.amount in spark.conf to 1."
        )
    if not (addresses[0].isascii() and addresses[0].isdigit()):
        raise ModelError(
            f"Spark assigned the GPU {addresses[0]!r}, which is not a CUDA device number. Let the discovery script of "
            "the executors print the numbers that torch uses: 0, 1, ..."
        )
    return f"cuda:{int(addresses[0])}"


def read_gpu_addresses() -> tuple[str, ...]:
    """Return the GPU addresses that Spark assigned to the task of this process; empty if there are none."""
    from pyspark import TaskContext

    context = TaskContext.get()
    resource = context.resources().get(GPU) if context is not None else None
    return tuple(resource.addresses) if resource is not None else ()


def read_task_cores() -> int:
    """Return `spark.task.cpus` of the task of this process."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.cpus() if context is not None else 1
