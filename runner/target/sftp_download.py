"""The lines that a person types to fetch from an SFTP server without Holdfast."""

from __future__ import annotations

import shlex

from runner.target.sftp_address import Address
from runner.target.shell import secret_words


def download_commands(address: Address, path: str, folder: str) -> list[str]:
    """Copy the folder `path` to the local `folder`, which is quoted already, with OpenSSH."""
    before, options, after = _login(address)
    options += ["-P", str(address.server.port)]
    options += ["-o", f"UserKnownHostsFile={' '.join(map(str, address.known_hosts))}"]
    if address.jump is not None:
        jump = address.jump
        options += ["-J", f"{jump.user}@{jump.host}:{jump.port}"]
    who = f"{address.server.user}@{address.server.host}"
    sftp = shlex.join(["sftp", *options, "-b", "-", who])
    lines = [f"cd {_quoted(path)}", "get -r ."]
    return [
        *before,
        f"mkdir -p -- {folder}",
        f"(cd -- {folder} && printf '%s\\n' {shlex.join(lines)} | {sftp} >/dev/null)",
        *after,
    ]


def _login(address: Address) -> tuple[list[str], list[str], list[str]]:
    """The lines before, the options, and the lines after."""
    if address.key is None:
        # The password is asked for; without this a batch would never ask.
        asking = [] if address.password is None else ["-o", "BatchMode=no"]
        return [], asking, []
    file = address.key.file
    if file is not None:
        return [], ["-i", str(file)], []
    before = [
        'eval "$(ssh-agent -s)" >/dev/null',
        f"printf '%s\\n' {secret_words(address.key)} | ssh-add -q -",
    ]
    return before, [], ["ssh-agent -k >/dev/null"]


def _quoted(path: str) -> str:
    """As the sftp program reads it: quotes and backslashes, and nothing for a pattern."""
    return '"' + "".join(f"\\{one}" if one in '"\\*?[' else one for one in path) + '"'
