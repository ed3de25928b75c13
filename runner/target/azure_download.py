"""The lines that a person types to fetch from a container without Holdfast."""

from __future__ import annotations

import shlex

from runner.target.azure_account import CLOUD, Account
from runner.target.shell import file_words, secret_words


def download_commands(account: Account, path: str, folder: str) -> list[str]:
    """Copy what lies below `path` in the container to `folder`, which is quoted already: with
    rclone where there is one, else with the az program, which makes the whole path below the
    folder.
    """
    place = shlex.quote(f"{account.container}/{path}")
    container, pattern = shlex.quote(account.container), shlex.quote(f"{path}/*")
    endpoint = f" --blob-endpoint {shlex.quote(account.endpoint)}" if account.endpoint else ""
    trusted = file_words(" --ca-cert ", account.ca_file)
    az = (
        f"{file_words('REQUESTS_CA_BUNDLE=', account.ca_file, ' ')}"
        f"az storage blob download-batch{endpoint} --no-progress --output none "
        f"--source {container} --pattern {pattern} --destination {folder}/.az"
    )
    return [
        *_login(account),
        f"mkdir -p -- {folder}/.az",
        f"if command -v rclone >/dev/null; then rclone copy{trusted} :azureblob:{place} {folder}",
        f"else {az}; cp -R -- {folder}/.az/{shlex.quote(path)}/. {folder}/; fi",
        f"rm -r -- {folder}/.az",
    ]


def _login(account: Account) -> list[str]:
    """Both programs take all of it from the environment."""
    if account.connection is not None:
        return _both("CONNECTION_STRING", secret_words(account.connection))
    lines = _both("ACCOUNT", shlex.quote(account.account))
    if account.endpoint:
        lines.append(f"export RCLONE_AZUREBLOB_ENDPOINT={shlex.quote(account.endpoint)}")
    if account.key is not None:
        return lines + _both("KEY", secret_words(account.key))
    if account.sas_token is None:
        return [*lines, "export RCLONE_AZUREBLOB_ENV_AUTH=true AZURE_STORAGE_AUTH_MODE=login"]
    endpoint = account.endpoint or f"https://{account.account}.blob.{CLOUD}"
    url = shlex.quote(f"{endpoint}/{account.container}?")
    return [
        *lines,
        f"export AZURE_STORAGE_SAS_TOKEN={secret_words(account.sas_token)}",
        f'export RCLONE_AZUREBLOB_SAS_URL={url}"${{AZURE_STORAGE_SAS_TOKEN#\\?}}"',
    ]


def _both(name: str, words: str) -> list[str]:
    return [
        f"export AZURE_STORAGE_{name}={words}",
        f'export RCLONE_AZUREBLOB_{name}="$AZURE_STORAGE_{name}"',
    ]
