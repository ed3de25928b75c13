"""A container of Azure Blob Storage as a target."""

from __future__ import annotations

from collections.abc import Iterator

from runner.errors import UsageError
from runner.spec.model import TargetSpec
from runner.target.azure_account import account_of
from runner.target.azure_container import Container
from runner.target.azure_download import download_commands
from runner.target.object_client import Manner
from runner.target.object_target import ObjectTarget


def open_target(spec: TargetSpec) -> AzureTarget:
    """The container that a spec declares. Nothing is asked of it yet."""
    options = spec.options
    manner = Manner(
        storage_class=options.get("tier"),
        part_size=options.get("part_size", 16 * 1024 * 1024),
        timeout=options.get("timeout", 300.0),
        retry=options.get("retry", 60.0),
    )
    return AzureTarget(Container(account_of(spec), manner))


class AzureTarget(ObjectTarget):
    """A container below a prefix."""

    def __init__(self, container: Container) -> None:
        super().__init__(container)
        self._account = container.account

    def admit(self, key: str) -> None:
        """Raises UsageError also where Azure itself takes no such name."""
        _require_name(key)
        super().admit(key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes; a missing one raises at the call."""
        _require_name(key)
        return super().get(key, offset=offset, length=length)

    def sweep(self, prefix: str, older_than: float) -> list[str]:  # noqa: ARG002
        """Nothing is left to remove: blocks that were never made a blob are not visible, cannot be
        removed by themselves, and are gone a week after the last of them was written.
        https://learn.microsoft.com/rest/api/storageservices/put-block#remarks
        """
        return []

    def location(self, key: str) -> str:
        """The URL of that key: https://account.blob.core.windows.net/container/prefix/key.

        Where a connection string says it all, `azure:` stands for the account.
        """
        account = self._account
        default = (
            f"https://{account.account}.blob.core.windows.net" if account.account else "azure:"
        )
        parts = (account.endpoint or default, account.container, account.prefix, key)
        return "/".join(part for part in parts if part)

    def download_commands(self, prefix: str, folder: str) -> list[str]:
        """Shell lines that copy the folder `prefix` to `folder`, which is quoted already."""
        path = "/".join(part for part in (self._account.prefix, prefix) if part)
        return download_commands(self._account, path, folder)


def _require_name(key: str) -> None:
    """Raise UsageError for a key that Azure would keep under another name: it takes a backslash
    for a slash, and may drop a dot at the end of a name.
    https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
    """
    if "\\" in key or any(part.endswith(".") for part in key.split("/")):
        raise UsageError(f"{key!r} is no key that Azure keeps as it is.")
