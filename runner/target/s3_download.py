"""The lines that a person types to fetch from a bucket without Holdfast."""

from __future__ import annotations

import shlex

from runner.target.s3_account import Account
from runner.target.shell import file_words, secret_words


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
        return (
            []
            if account.profile is None
            else [f"export AWS_PROFILE={shlex.quote(account.profile)}"]
        )
    lines = [
        f"export AWS_ACCESS_KEY_ID={secret_words(account.access_key)}",
        f"export AWS_SECRET_ACCESS_KEY={secret_words(account.secret_key)}",
    ]
    if account.session_token is not None:
        lines.append(f"export AWS_SESSION_TOKEN={secret_words(account.session_token)}")
    return lines


def _aws(account: Account, url: str) -> str:
    endpoint = f" --endpoint-url {shlex.quote(account.endpoint)}" if account.endpoint else ""
    region = shlex.quote(account.region)
    return (
        f"aws{endpoint}{file_words(' --ca-bundle ', account.ca_file)} --region {region} "
        f"s3 cp --recursive --only-show-errors {shlex.quote(url)}"
    )


def _rclone(account: Account, url: str) -> str:
    endpoint = f',endpoint="{account.endpoint}"' if account.endpoint else ""
    provider = "Other" if account.endpoint else "AWS"
    style = "false" if account.virtual else "true"
    remote = f":s3,provider={provider},env_auth=true,region={account.region}"
    path = url.removeprefix("s3://")
    source = shlex.quote(f"{remote},force_path_style={style}{endpoint}:{path}")
    return f"rclone copy{file_words(' --ca-cert ', account.ca_file)} {source}"
