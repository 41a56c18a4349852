"""Blobs that nobody needs any more are found and deleted, a batch at a turn."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence

from pithead.exchange.blobs import BlobError, Blobs, Entry, owner_of
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.ports import Tx

_log = logging.getLogger("pithead.blobs")


def orphans(tx: Tx, names: Sequence[str]) -> list[str]:
    """Those of the blobs that nothing names and nothing ever will; what was not named by us is left alone."""
    return [name for name in names if (owner := owner_of(name)) is not None and tx.is_orphan(owner, name)]


class Collector:
    """Walks through the blob store again and again, one batch at a turn, and deletes orphans.

    An upload that is under way is safe whatever it takes: it is for a job that is not finished, or for a file that is not
    whole, and their blobs are left alone; once it is, the upload would be refused, or changes nothing. The age is there beside that, for what is not
    of this database at all: a backup that is restored must not lose the results that came after it at once. Any number
    of coordinators may do this at the same time.
    """

    def __init__(self, coordinator: Coordinator, blobs: Blobs, older_than: float) -> None:
        """`older_than`: seconds since a blob was last written, by the coordinator's clock."""
        self._coordinator = coordinator
        self._blobs = blobs
        self._older_than = older_than
        self._walk: AsyncGenerator[list[Entry]] | None = None

    async def turn(self) -> bool:
        """Look at one batch; whether the walk goes on. Raises `BlobError`; the next turn begins a new walk."""
        walk = self._walk = self._walk or self._blobs.list()
        try:
            batch = await anext(walk, None)
            if batch is None:
                self._walk = None
                return False
            before = self._coordinator.now() - self._older_than
            old = [entry.name for entry in batch if entry.modified_at < before]
            if old and (found := await self._coordinator.read(lambda tx: orphans(tx, old))):
                await self._blobs.delete(found)
                _log.info("%d blobs that no result needs were deleted", len(found))
        except BaseException:
            await self.close()
            raise
        return True

    async def close(self) -> None:
        """End the walk."""
        walk, self._walk = self._walk, None
        if walk is not None:
            with contextlib.suppress(BlobError):
                await walk.aclose()
