"""The few requests to an S3 server that the object store's library has no words for.

Signatures are those of version 4:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from runner.errors import StepFailed
from runner.target.object_errors import ENDLESS
from runner.trust import trusting

# What speaks HTTP takes long to import, and most commands get by without.
if TYPE_CHECKING:
    import urllib.request
    from xml.etree import ElementTree as ET

MOST_BYTES = 8 * 1024 * 1024  # of an answer: 1000 uploads take less


@dataclass(frozen=True)
class Key:
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str | None = None  # of temporary credentials


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun and not ended."""

    key: str  # whole, with the prefix
    id: str
    began: datetime


class Refused(StepFailed):
    """The server answered with an error. `text` is what it said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"The server answers with status {status}.")
        self.status = status
        self.text = text


class Unreachable(StepFailed):
    """There was no answer. `text` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(f"The server does not answer: {text}.")
        self.text = text


@dataclass(frozen=True)
class Requests:
    """Requests to one bucket."""

    url: str  # of the bucket, without a slash at its end
    region: str
    timeout: float  # seconds
    ca: str | None = None  # a file of certificates that are trusted beside the usual ones

    def date(self) -> datetime:
        """The server's clock, to the second. What it thinks of the request does not matter."""
        import urllib.request
        from email.utils import parsedate_to_datetime

        request = urllib.request.Request(self.url, method="HEAD")  # noqa: S310
        _, headers = self._ask(request, refusal=True)
        try:
            return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError):
            raise Unreachable("it does not say what time it is") from None

    def uploads(self, prefix: str, key: Key) -> Iterator[Upload]:
        """The unfinished uploads whose key starts with `prefix`. Raises Refused or Unreachable."""
        query = {"uploads": "", "prefix": prefix}
        while True:
            text, _ = self.ask("GET", "", query, key)
            tree = plain(text)
            for one in tree.iter("Upload"):
                began = datetime.fromisoformat(one.findtext("Initiated", ""))
                yield Upload(one.findtext("Key", ""), one.findtext("UploadId", ""), began)
            marks = (tree.findtext("NextKeyMarker"), tree.findtext("NextUploadIdMarker"))
            if tree.findtext("IsTruncated") != "true" or not marks[0]:
                return
            following = {"key-marker": marks[0], "upload-id-marker": marks[1] or ""}
            if query == query | following:
                raise Unreachable(ENDLESS)
            query |= following

    def abort(self, upload: Upload, key: Key) -> None:
        """Have the server forget an upload and its parts. Raises Refused."""
        self.ask("DELETE", f"/{quote(upload.key)}", {"uploadId": upload.id}, key)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        key: Key,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[bytes, Mapping[str, str]]:
        """The answer to one signed request, and its headers. `path` is quoted, and starts with a
        slash unless it is empty; the names of `headers` are in lower case. Raises Refused or
        Unreachable.
        """
        return self._ask(self._signed(method, path, query, key, body, headers))

    def _ask(
        self, request: urllib.request.Request, *, refusal: bool = False
    ) -> tuple[bytes, Mapping[str, str]]:
        import urllib.error
        import urllib.request

        context = None
        if self.url.startswith("https:"):
            context = trusting()
            if self.ca is not None:
                context.load_verify_locations(cadata=self.ca)
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=self.timeout, context=context
            ) as answer:
                return answer.read(MOST_BYTES), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                if refusal:
                    return b"", dict(error.headers)
                raise Refused(error.code, error.read(MOST_BYTES).decode(errors="replace")) from None
        except urllib.error.URLError as error:
            raise Unreachable(str(error.reason)) from None
        except OSError as error:
            raise Unreachable(str(error)) from None

    def _signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        key: Key,
        body: bytes,
        more: Mapping[str, str],
    ) -> urllib.request.Request:
        import urllib.request

        parts = urlsplit(self.url)
        text = "&".join(f"{quote(n, safe='')}={quote(query[n], safe='')}" for n in sorted(query))
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest()
        headers = {"host": parts.netloc, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        headers |= more
        if key.token is not None:
            headers["x-amz-security-token"] = key.token
        names = ";".join(sorted(headers))
        lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
        target = f"{parts.path}{path}" or "/"
        canonical = "\n".join([method, target, text, *lines, "", names, payload])
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={_signature(canonical, stamp, scope, key)}"
        )
        url = f"{parts.scheme}://{parts.netloc}{target}?{text}"
        return urllib.request.Request(  # noqa: S310
            url, data=body or None, method=method, headers=headers
        )


def _signature(canonical: str, stamp: str, scope: str, key: Key) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signing = f"AWS4{key.secret_key}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    wanted = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    return hmac.digest(signing, wanted.encode(), "sha256").hex()


def plain(text: bytes) -> ET.Element:
    """An answer's document, without namespaces, which servers disagree on."""
    from xml.etree import ElementTree as ET

    tree = ET.fromstring(text)  # noqa: S314 - of the server that keeps everything
    for one in tree.iter():
        one.tag = one.tag.rpartition("}")[2]
    return tree
