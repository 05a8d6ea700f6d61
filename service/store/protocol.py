"""What the service asks of the place where pictures are kept. Knows no job and no format."""

from typing import Protocol


class ImageStore(Protocol):
    """Bytes under keys such as `job_…/0.17.png` and `inputs/<sha256>`."""

    def put(self, key: str, data: bytes) -> None:
        """Keeps `data` under `key`, wholly or not at all; it survives a crash once this returns.

        Raises:
            Unavailable: the store is full or can't be reached.
            ValueError: the key has another form.
        """

    def get(self, key: str) -> bytes:
        """The bytes under `key`.

        Raises:
            NotFound: nothing is kept there.
            Unavailable: the store can't be reached.
            ValueError: the key has another form.
        """

    def refresh(self, key: str) -> bool:
        """Counts the age of `key` from now, for the next sweep; False where nothing is kept.

        Raises:
            Unavailable: the store can't be reached.
            ValueError: the key has another form.
        """

    def delete(self, key: str) -> None:
        """Forgets `key`; without effect where nothing is kept.

        Raises:
            Unavailable: the store can't be reached.
            ValueError: the key has another form.
        """

    def sweep(self, *, incoming_before_s: float, images_before_s: float | None = None) -> int:
        """Deletes what crashes and expired jobs left behind.

        Args:
            incoming_before_s: Unix time; unfinished writes last touched before it go.
            images_before_s: Unix time; images written or refreshed last before it go; None keeps
                every image.

        Returns:
            The number of deleted files.

        Raises:
            Unavailable: the store can't be reached.
        """
