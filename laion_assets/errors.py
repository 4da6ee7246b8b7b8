"""Every error this project raises on purpose.

    LaionAssetsError
    ├── SettingError            a setting is missing, malformed or contradicts another
    ├── LayoutError             rows or partitions do not fit the declared layout
    ├── SourceError             a source of CSVs or parquet files cannot be read
    ├── CommitError
    │   ├── ConservationError   rows in != rows out + rows dropped for named reasons
    │   ├── ClaimError          another live publisher holds the partition
    │   ├── ReplacedError       another run published the partition that this one adds to
    │   └── IntegrityError      files on disk disagree with their manifest
    │       └── StoreError      a path leads out of the store, or something that is not ours is in the way
    ├── IncompleteError         partitions a stage needs are not published
    ├── EmptyStageError         a stage kept no row
    ├── ForeignError            partitions handed in do not belong to this dataset or run
    ├── ShardError             a shard could not be made for reasons of our own side
    │   └── LocalFailureError     failures come from this machine or its network, not from the sites
    ├── SparkError              Spark cannot start: Java, Python or a setting is not what it needs
    ├── ModelError              a CLIP model cannot be loaded, or is not the expected one
    ├── EmbeddingError          vectors that are not finite, or files of another dtype or width
    ├── IndexBuildError         autofaiss gave no index
    └── QueryError              a search that cannot be answered

Each message says what is wrong, where (file, row, partition, setting) and what to do now. All are picklable: they
are built from one string, because they cross process pools and Spark.
"""

from laion_assets.plain_text import one_line


class LaionAssetsError(Exception):
    """Base of all deliberate errors; the command line prints its message without a traceback.

    A message quotes what strangers wrote (URLs, file names, headers): it is one line of visible characters, so that it
    can be shown in a terminal, in a log and in the Dagster UI.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class SettingError(LaionAssetsError):
    """A setting is missing, malformed or contradicts another; the message names the setting."""


class LayoutError(LaionAssetsError):
    """Rows or partitions do not fit the declared layout."""


class SourceError(LaionAssetsError):
    """A source of CSVs or parquet files cannot be read; the message names the URL or file."""


class CommitError(LaionAssetsError):
    """A partition could not be published."""


class InvariantError(CommitError):
    """Rows in differ from rows out plus the rows dropped for named reasons: nothing was published."""


class LeaseError(CommitError):
    """Another live publisher holds this partition."""


class ReplacedError(CommitError):
    """The partition is no longer the one that this publication was made from: another run published it meanwhile."""


class IntegrityError(CommitError):
    """Files on disk disagree with their manifest."""


class StoreError(IntegrityError):
    """A path leads out of the store, or something that this program did not put there is in the way."""


class IncompleteError(LaionAssetsError):
    """Partitions that a stage needs are not published; the message names them."""


class EmptyStageError(LaionAssetsError):
    """A stage kept no row; the message names the stage that lost them and the reasons."""


class ForeignError(LaionAssetsError):
    """Partitions handed to a stage do not belong to its dataset or run."""


class ShardError(LaionAssetsError):
    """A shard could not be made for reasons of our own side (resolver down, disk full), not the web's."""


class LocalFailureError(ShardError):
    """Rows of a shard failed because of this machine or its network (DNS, CAs, portal, CPU): it is not committed."""


class SparkError(LaionAssetsError):
    """Spark cannot start: Java, Python or a setting is not what it needs; the message says which."""


class ModelError(LaionAssetsError):
    """A CLIP model cannot be loaded, or is another one than the neighbours were made with."""


class EmbeddingError(LaionAssetsError):
    """Vectors that are not finite, or an embedding file of another dtype, width or row count."""


class IndexBuildError(LaionAssetsError):
    """autofaiss gave no index; the message repeats why."""


class QueryError(LaionAssetsError):
    """A search that cannot be answered; the message says which argument is wrong."""
