"""Start the worker processes of the embedding pipeline."""

from laion_assets.models.pools import Pools, StartPools
from laion_assets.stages.clip_embeddings.pipeline.decoder_pool import DecoderPool
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import Preparation, reader_processes
from laion_assets.workers.pool import available_cores


def pool_starter(requested: int, cores: int | None = None) -> StartPools:
    """Return a function that starts `requested` processes that prepare shards, and with any also decoder processes.

    -1: none on a CPU, one per 5 cores with a GPU. `cores` is the number of cores to use, all if None.
    """
    cores = cores or available_cores()

    def start(package: str, on_gpu: bool) -> Pools:
        # One decoder per core, because decoding takes most of the CPU.
        readers = reader_processes(requested, on_gpu, cores)
        return Pools(Preparation(readers, package), DecoderPool(max(readers, cores))) if readers else Pools()

    return start
