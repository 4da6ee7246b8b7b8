"""Start the worker processes of the embedding pipeline."""

from laion_assets.models.pools import Pools, StartPools
from laion_assets.stages.clip_embeddings.pipeline.decoder_pool import DecoderPool, decoder_processes
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import Preparation, reader_processes


def pool_starter(requested: int) -> StartPools:
    """Return a function that starts `requested` processes that prepare shards, and with any also decoder processes.

    -1: none on a CPU, one per 5 cores with a GPU.
    """

    def start(package: str, on_gpu: bool) -> Pools:
        readers = reader_processes(requested, on_gpu)
        return Pools(Preparation(readers, package), DecoderPool(decoder_processes(readers))) if readers else Pools()

    return start
