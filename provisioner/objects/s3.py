"""What only S3 has, through boto3: multipart uploads by URL, and POST policies.

Bytes still move through obstore; boto3 only signs, opens and completes uploads. It is imported on first use, in a
thread, because that takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from provisioner.domain.errors import ObjectsError
from provisioner.domain.extras import installed_by
from provisioner.domain.ports import Multipart

from .keys import checked, checked_folder
from .store import LONGEST_S, ObstoreObjects, OpenForeign

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

T = TypeVar("T")
# Source: Amazon S3 user guide, "multipart upload limits": at most 10,000 parts, 5 MiB to 5 GiB each.
_MOST_PARTS = 10_000
_PART, _LARGEST_PART = 16 * 2**20, 5 * 2**30


class S3Objects(ObstoreObjects):
    """`s3://BUCKET/PREFIX`; AWS_ENDPOINT_URL for servers other than Amazon's."""

    def __init__(self, url: str, *, foreign: OpenForeign) -> None:
        super().__init__(url, foreign=foreign)
        self._bucket = urlsplit(url).netloc
        self._prefix = urlsplit(url).path.strip("/")
        self._made: S3Client | None = None
        self._making = threading.Lock()

    async def multipart(self, key: str, size: int, expires_s: float) -> Multipart:
        full, seconds, part_size = self._full(checked(key)), _seconds(expires_s), part_size_for(size)
        count = max(1, -(-size // part_size))

        def begin() -> Multipart:
            upload_id = self._client().create_multipart_upload(Bucket=self._bucket, Key=full)["UploadId"]
            urls = tuple(self._part(full, seconds, upload_id, number) for number in range(1, count + 1))
            return Multipart(upload_id, part_size, urls)

        return await self._signing(begin)

    async def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Completing what was completed before is success: an answer may have been lost."""
        full = self._full(checked(key))

        def finish() -> None:
            parts: Any = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
            self._client().complete_multipart_upload(
                Bucket=self._bucket, Key=full, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

        try:
            await self._signing(finish)
        except ObjectsError as error:
            if not error.missing or await self.head(key) is None:
                raise

    async def post_policy(self, prefix: str, expires_s: float, max_bytes: int) -> Mapping[str, Any] | None:
        folder = self._full(checked_folder(prefix)) + "/"
        seconds = _seconds(expires_s)

        def make() -> Mapping[str, Any]:
            conditions: list[Any] = [["starts-with", "$key", folder], ["content-length-range", 0, max_bytes]]
            made = self._client().generate_presigned_post(
                self._bucket, folder + "${filename}", Conditions=conditions, ExpiresIn=seconds
            )
            return {"url": made["url"], "fields": made["fields"]}

        return await self._signing(make)

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _part(self, full: str, seconds: int, upload_id: str, number: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": full, "UploadId": upload_id, "PartNumber": number}
        return str(self._client().generate_presigned_url("upload_part", Params=parameters, ExpiresIn=seconds))

    async def _signing(self, call: Callable[[], T]) -> T:
        with self._ours():
            return await asyncio.to_thread(call)

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        """botocore's errors as ours."""
        try:
            import botocore.exceptions as theirs
        except ImportError as error:
            raise ObjectsError("S3 needs boto3", hint=installed_by("aws")) from error
        try:
            yield
        except theirs.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            missing = code in ("404", "NoSuchKey", "NoSuchUpload", "NoSuchBucket")
            raise ObjectsError(f"{self.url}: {error}", missing=missing) from error
        except theirs.BotoCoreError as error:
            raise ObjectsError(f"{self.url}: {error}", hint="check its address and credentials") from error

    def _client(self) -> S3Client:
        with self._making:
            if self._made is None:
                self._made = _make_client()
            return self._made


def part_size_for(size: int) -> int:
    """Bytes of one part: 16 MiB, more where the size would need over 10,000 of them, in whole MiB.

    Raises: ObjectsError when no part size serves.
    """
    mib = 2**20
    least = -(-size // _MOST_PARTS)
    part_size = max(_PART, -(-least // mib) * mib)
    if part_size > _LARGEST_PART:
        raise ObjectsError(f"an object of {size} bytes is larger than S3 takes")
    return part_size


def _make_client() -> S3Client:
    import boto3
    from botocore.config import Config

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 3},
        ),
    )


def _seconds(expires_s: float) -> int:
    return max(1, int(min(expires_s, LONGEST_S)))
