"""Files of a form on their way in: one that cannot be written whole leaves nothing on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler


class CleanUploadHandler(TemporaryFileUploadHandler):
    """Django's own keeps the file it could not finish, as on a full disk, until it is garbage."""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        with self.removed_on_error():
            super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size: int) -> "UploadedFile[Any] | None":
        with self.removed_on_error():
            return super().file_complete(file_size)

    @contextmanager
    def removed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):  # closing tries to write what is left, and fails again
                self.upload_interrupted()
            raise
