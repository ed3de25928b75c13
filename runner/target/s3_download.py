"""The lines that a person types to fetch from a bucket without Holdfast."""

from __future__ import annotations

import shlex

from runner.secret import Secret
from runner.target.s3_account import Account


def download_commands(account: Account, url: str, folder: str) -> list[str]:
    """Copy what lies below `url` to `folder`, which is quoted already: with the aws program where
    there is one, else with rclone. Both take the keys from the environment.
    """
    return [
        *_keys(account),
        f"mkdir -p -- {folder}",
        f"if command -v aws >/dev/null; then {_aws(account, url)} {folder}",
        f"else {_rclone(account, url)} {folder}; fi",
    ]


def _keys(account: Account) -> list[str]:
    if account.access_key is None or account.secret_key is None:
        return [] if account.profile is None else [f"export AWS_PROFILE={_quoted(account.profile)}"]
    lines = [
        f"export AWS_ACCESS_KEY_ID={_value(account.access_key)}",
        f"export AWS_SECRET_ACCESS_KEY={_value(account.secret_key)}",
    ]
    if account.session_token is not None:
        lines.append(f"export AWS_SESSION_TOKEN={_value(account.session_token)}")
    return lines


def _value(secret: Secret) -> str:
    """The shell's words for a secret: where it comes from, never what it is."""
    kind, _, place = secret.reference.partition(":")
    if kind == "env":
        return f'"${{{place}}}"'
    if kind == "file":
        return f'"$(cat {_quoted(str(secret.file))})"'
    if kind == "command":
        return f'"$({place})"'
    return f'"$(cat "$CREDENTIALS_DIRECTORY"/{_quoted(place)})"'


def _aws(account: Account, url: str) -> str:
    endpoint = f" --endpoint-url {_quoted(account.endpoint)}" if account.endpoint else ""
    region = _quoted(account.region)
    return f"aws{endpoint} --region {region} s3 cp --recursive --only-show-errors {_quoted(url)}"


def _rclone(account: Account, url: str) -> str:
    endpoint = f',endpoint="{account.endpoint}"' if account.endpoint else ""
    provider = "Other" if account.endpoint else "AWS"
    style = "false" if account.virtual else "true"
    remote = f":s3,provider={provider},env_auth=true,region={account.region}"
    path = url.removeprefix("s3://")
    return f"rclone copy {_quoted(f'{remote},force_path_style={style}{endpoint}:{path}')}"


def _quoted(text: str) -> str:
    return shlex.quote(text)
