"""Every error the model raises.

    ModelError
    ├── CheckpointError       a weight file is missing, truncated, or of another shape
    ├── DownloadError         a published file that can't be fetched, or has no room here
    ├── ConditioningError     an input that the network can't be conditioned on
    ├── GoldenFileError       a file of the originals' numbers that can't be verified
    ├── SnapshotError         a saved trajectory that is damaged or belongs to another run
    └── UnsupportedSampling   a sampler, step count or size that the pipeline doesn't have

The model knows nothing of HTTP: a `code` is stable and machine-readable, `retryable` says whether
the same call may succeed later.
"""

from typing import ClassVar


class ModelError(Exception):
    """What the world can break inside `model`; its text is fit to show to the person who asked."""

    code: ClassVar[str] = "model_error"
    retryable: ClassVar[bool] = False


class CheckpointError(ModelError):
    """A weight file is missing, damaged, or does not fit the network it was given to."""

    code = "bad_checkpoint"


class DownloadError(ModelError):
    """A published file can't be fetched, or there is no room for it."""

    code = "download_failed"
    retryable = True


class ConditioningError(ModelError):
    """A caption, label or image that the network can't be conditioned on."""

    code = "bad_conditioning"


class GoldenFileError(ModelError):
    """A file of the originals' numbers that is damaged or does not say what to compute."""

    code = "bad_golden_file"


class SnapshotError(ModelError):
    """A saved trajectory that is damaged, or was saved by another run than the one to resume."""

    code = "bad_snapshot"


class UnsupportedSampling(ModelError):
    """A sampler, step count, guidance or size that this pipeline can't run."""

    code = "unsupported_sampling"
