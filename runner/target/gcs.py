"""A bucket of Google Cloud Storage as a target."""

from __future__ import annotations

from runner.errors import UsageError
from runner.spec.model import TargetSpec
from runner.target.gcs_account import account_of
from runner.target.gcs_bucket import Bucket
from runner.target.gcs_download import download_commands
from runner.target.object_client import Manner
from runner.target.object_target import ObjectTarget

SMALLEST_PART = 5 * 1024 * 1024


def open_target(spec: TargetSpec) -> GcsTarget:
    """The bucket that a spec declares. Nothing is asked of it yet."""
    options = spec.options
    manner = Manner(
        storage_class=options.get("storage_class"),
        part_size=options.get("part_size", 16 * 1024 * 1024),
        timeout=options.get("timeout", 300.0),
        retry=options.get("retry", 60.0),
    )
    if manner.part_size < SMALLEST_PART:
        raise UsageError(
            f"Target {spec.name}: a part_size of {manner.part_size} bytes is too small.",
            remedy="Declare 5MiB or more: Google takes no smaller parts.",
        )
    return GcsTarget(Bucket(account_of(spec), manner))


class GcsTarget(ObjectTarget):
    """A bucket below a prefix."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self._account = bucket.account

    def sweep(self, prefix: str, older_than: float) -> list[str]:  # noqa: ARG002
        """Nothing is removed: what a killed run left of an upload in parts is not visible, and the
        library cannot list it. A rule of the bucket does that: see docs/how-to/gcs.md.
        """
        return []

    def location(self, key: str) -> str:
        """The URL of that key: gs://bucket/prefix/key."""
        account = self._account
        return "gs://" + "/".join(part for part in (account.bucket, account.prefix, key) if part)

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        return download_commands(self._account, self.location(prefix), folder)
