"""Which blob store a setting means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pithead.exchange.blobs import BlobError, Blobs
from pithead.store.blobs import LocalBlobs

#: What the URL of a bucket begins with.
BUCKETS: Final = ("s3", "gs", "az")


def open_blobs(place: str, default: Path, *, s3: Mapping[str, str] | None = None, allow_http: bool = False) -> Blobs:
    """The blob store at `place`: a path, a `file://` URL, or the URL of a bucket; where it is empty, the folder `default`.

    `s3` are options for buckets of that kind, by obstore's names. Raises `BlobError`.
    """
    scheme = urlsplit(place).scheme if "://" in place else ""
    if not place:
        return LocalBlobs(default)
    if not scheme:
        return LocalBlobs(Path(place))
    if scheme == "file":
        parts = urlsplit(place)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise BlobError("a file:// URL has three slashes and then the path")
        return LocalBlobs(Path(unquote(parts.path)))
    if scheme not in BUCKETS:
        raise BlobError(
            f"there are no {scheme}:// blob stores; there are {', '.join(f'{s}://' for s in BUCKETS)} and folders"
        )
    if not urlsplit(place).netloc:
        raise BlobError(f"it names no bucket; write {scheme}://bucket/prefix")
    # Only who has a bucket waits for the library to load.
    from pithead.store.objects import ObjectBlobs, open_bucket

    options = dict(s3 or {}) if scheme == "s3" else {}
    return ObjectBlobs(open_bucket(place, options, allow_http=allow_http), place)
