"""All errors that this project raises deliberately.

    LaionAssetsError
    ├── SettingError            a setting is missing, malformed, or contradicts another
    ├── LayoutError             rows or partitions do not fit the declared layout
    ├── SourceError             a source of CSVs or parquet files cannot be read
    ├── CommitError             a partition cannot be committed
    │   ├── InvariantError      rows in != rows out + rows dropped for named reasons
    │   ├── LeaseError          another live process holds the lease of the partition
    │   ├── ReplacedError       another run committed the partition that this one adds to
    │   └── IntegrityError      files on disk disagree with their manifest
    │       └── StoreError      a path outside of the store, or a file that this program did not write
    ├── IncompleteError         partitions that a stage needs are not committed
    ├── EmptyStageError         a stage kept no row, or too few
    ├── ForeignError            partitions of another dataset or run
    ├── AdoptionError           files of another program cannot be adopted
    ├── ShardError              a shard cannot be built
    │   └── LocalFailureError   rows failed because of this machine or its network, not the sites
    ├── SparkError              Spark cannot start: wrong Java, Python or setting
    ├── ModelError              a CLIP model cannot be loaded, or is not the expected one
    ├── EmbeddingError          files that cannot be built, vectors that are not finite, another dtype or width
    ├── IndexBuildError         autofaiss returned no index
    ├── QueryError              an invalid search
    └── ExportError             rows cannot be exported: an invalid predicate, uid list or output folder

Each message says what happened, where (file, row, partition, setting) and how to fix it. All errors are built from one
string, so that they can be pickled: they cross process pools and Spark.
"""

from laion_assets.plain_text import one_line


class LaionAssetsError(Exception):
    """Base class of all deliberate errors. The command line prints the message without a traceback.

    A message may quote untrusted text (URLs, file names, headers). It is therefore one line of visible characters, safe
    for a terminal, a log and the Dagster UI.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class SettingError(LaionAssetsError):
    """A setting is missing, malformed, or contradicts another. The message names the setting."""


class LayoutError(LaionAssetsError):
    """Rows or partitions do not fit the declared layout."""


class SourceError(LaionAssetsError):
    """A source of CSVs or parquet files cannot be read. The message names the URL or file."""


class CommitError(LaionAssetsError):
    """A partition cannot be committed."""


class InvariantError(CommitError):
    """Rows in differ from rows out plus rows dropped for named reasons. Nothing was committed."""


class LeaseError(CommitError):
    """Another live process holds the lease of the partition."""


class ReplacedError(CommitError):
    """Another run committed the partition after this transaction read it."""


class IntegrityError(CommitError):
    """Files on disk disagree with their manifest."""


class StoreError(IntegrityError):
    """A path leads out of the store, or a file that this program did not write is in the way."""


class IncompleteError(LaionAssetsError):
    """Partitions that a stage needs are not committed. The message names them."""


class EmptyStageError(LaionAssetsError):
    """A stage kept no row, or too few (`min_kept_share`). The message names the stage and the reasons."""


class ForeignError(LaionAssetsError):
    """Partitions passed to a stage do not belong to its dataset or run."""


class AdoptionError(LaionAssetsError):
    """Files of another program cannot become partitions. Nothing was changed."""


class ShardError(LaionAssetsError):
    """A shard cannot be built, for example because the resolver is down or the disk is full."""


class LocalFailureError(ShardError):
    """Rows of a shard failed because of this machine or its network (DNS, CAs, portal, CPU). It is not committed."""


class SparkError(LaionAssetsError):
    """Spark cannot start: Java, Python or a setting is wrong. The message says which."""


class ModelError(LaionAssetsError):
    """A CLIP model cannot be loaded, or is not the one that the other partitions were built with."""


class EmbeddingError(LaionAssetsError):
    """Embedding files cannot be built, vectors are not finite, or a file has another dtype, width or row count."""


class IndexBuildError(LaionAssetsError):
    """autofaiss returned no index. The message repeats its reason."""


class QueryError(LaionAssetsError):
    """An invalid search. The message says which argument is wrong.

    `field` is the name of the argument in the search API, and `code` a word for programs. Neither survives pickling.
    """

    def __init__(self, message: str = "", field: str = "", code: str = "invalid_query") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class ExportError(LaionAssetsError):
    """Rows cannot be exported. The message names the predicate, file, option or folder that is wrong."""
