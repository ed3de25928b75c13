"""The lines that a person types to fetch from a bucket of Google's without Holdfast."""

from __future__ import annotations

import shlex

from runner.target.gcs_account import CLOUD, Account
from runner.target.shell import file_words, secret_words


def download_commands(account: Account, url: str, folder: str) -> list[str]:
    """Copy what lies below `url` to `folder`, which is quoted already: with rclone where there is
    one, else with the gcloud program.
    """
    path = shlex.quote(url.removeprefix("gs://"))
    source = shlex.quote(f"{url}/*")
    before, after, gcloud = _login(account)
    trusted = file_words(" --ca-cert ", account.ca_file)
    gcloud += file_words("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE=", account.ca_file, " ")
    return [
        *before,
        f"mkdir -p -- {folder}",
        f"if command -v rclone >/dev/null; then rclone copy{trusted} :gcs:{path} {folder}",
        f"else {gcloud}gcloud storage cp --recursive {source} {folder}/; fi",
        *after,
    ]


def _login(account: Account) -> tuple[list[str], list[str], str]:
    """The lines before and after, and what stands before gcloud."""
    before: list[str] = []
    after: list[str] = []
    if account.endpoint != CLOUD:
        interface = shlex.quote(f"{account.endpoint}/storage/v1/")
        before += [f"export RCLONE_GCS_ENDPOINT={interface}"]
        before += [f"export CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE={interface}"]
    if account.credentials is None:
        return [*before, "export RCLONE_GCS_ENV_AUTH=true"], after, ""
    if account.credentials.file is not None:
        key = shlex.quote(str(account.credentials.file))
    else:
        key = '"$gcs_key"'
        before += [
            'gcs_key="$(mktemp)"',
            f"printf '%s\\n' {secret_words(account.credentials)} >\"$gcs_key\"",
        ]
        after += ['rm -- "$gcs_key"']
    before += [f"export RCLONE_GCS_SERVICE_ACCOUNT_FILE={key}"]
    return before, after, f"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE={key} "
