"""Signatures of snapshots: `SHA256SUMS.sig`, as `ssh-keygen -Y sign` makes and checks them.

A recipient is public, so whoever may write to a target can make a snapshot that opens. Only the
signature says who made it. It is over SHA256SUMS, which lists every file and the manifest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import StepFailed
from runner.process import LOCAL_WORDS, CommandFailed, Outcome, run
from runner.secret import Secret
from runner.store.snapshot import SUMS
from runner.target import Target

SIGNATURE = f"{SUMS}.sig"
NAMESPACE = "holdfast"  # a signature that was made for something else counts for nothing here
MOST_BYTES = 64 * 1024
SECONDS = 60.0

_KEYS = ("ssh-", "ecdsa-", "sk-", "-----BEGIN")  # how a key begins


class Uncheckable(StepFailed):
    """Signatures cannot be made or checked on this machine, whatever they are."""


def sign(data: bytes, key: Secret) -> bytes:
    """The armoured signature of `data`. Raises StepFailed when the key cannot be used."""
    program = _program()
    with _in_memory(key.reveal().encode() + b"\n") as path:
        try:
            done = run(
                [program, "-Y", "sign", "-q", "-n", NAMESPACE, "-f", path],
                stdin=data,
                environment=_environment(),
                timeout=SECONDS,
            )
        except CommandFailed as error:
            raise StepFailed(
                f"The snapshot cannot be signed with {key}: {_last_line(error)}",
                remedy="signing.key is an SSH private key without a passphrase: "
                "ssh-keygen -t ed25519 -N '' -f FILE makes one.",
            ) from None
    return done.stdout


@dataclass(frozen=True)
class Signers:
    """Whose signatures count: a file of `allowed_signers`, as ssh-keygen(1) describes it."""

    file: Path

    def problem(self, data: bytes, signature: bytes) -> str | None:
        """Why `signature` is none of theirs over `data`; None when it is.

        Raises Uncheckable when that cannot be found out.
        """
        program = _program()
        if not self.file.is_file():
            raise Uncheckable(
                f"Signatures cannot be checked: there is no {self.file}.",
                remedy="Put the file of signing.allowed_signers there, or give --allowed-signers.",
            )
        if len(signature) > MOST_BYTES:
            return f"it has more than {MOST_BYTES} bytes"
        with _in_memory(signature) as path:
            common = ("-n", NAMESPACE, "-s", path, "-f", self.file)
            found = _answered([program, "-Y", "find-principals", *common])
            names = found.stdout.decode(errors="replace").splitlines()  # they may have spaces
            for name in names if found.status == 0 else ():
                checked = _answered([program, "-Y", "verify", "-I", name, *common], data)
                if checked.status == 0:
                    return None
        if found.status != 0 or not names:
            return f"none of the signers in {self.file} made it{self._mistaken()}"
        return f"it is not {names[0]}'s signature of this {SUMS}"

    def _mistaken(self) -> str:
        """What is to be said of a file that was taken for another: each line starts with a name."""
        for number, line in enumerate(self.file.read_text(errors="replace").splitlines(), start=1):
            if line.startswith(_KEYS):
                return f" (line {number} lacks a name before the key: `ops@example.org ssh-…`)"
        return ""


def stored_signature(target: Target, folder: str) -> bytes | None:
    """The signature that lies in a snapshot's folder; None where there is none."""
    try:
        return b"".join(target.get(f"{folder}/{SIGNATURE}", length=MOST_BYTES + 1))
    except FileNotFoundError:
        return None


def unsigned(target: Target, folder: str, sums: bytes, signers: Signers) -> str | None:
    """Why a snapshot whose SHA256SUMS should be `sums` does not count as signed; None if it does.

    Raises Uncheckable when that cannot be found out.
    """
    signature = stored_signature(target, folder)
    if signature is None:
        return f"{SIGNATURE}: it is missing, so nobody knows who made the snapshot"
    problem = signers.problem(sums, signature)
    return None if problem is None else f"{SIGNATURE}: {problem}"


def _answered(arguments: Sequence[str | Path], data: bytes = b"") -> Outcome:
    """What ssh-keygen answers, yes or no. Raises Uncheckable where it could not look."""
    done = run(
        arguments, stdin=data, environment=_environment(), timeout=SECONDS, accept=range(256)
    )
    if done.status != 0 and any(words in done.stderr for words in LOCAL_WORDS):
        raise Uncheckable(f"Signatures cannot be checked: {done.stderr}", local=True)
    return done


def _program() -> str:
    found = shutil.which("ssh-keygen")
    if found is None:
        raise Uncheckable(
            "Signatures need ssh-keygen, which is not installed here.",
            remedy="apt-get install openssh-client",
        )
    return found


def _environment() -> dict[str, str]:
    """Without an agent, whose keys are nobody's declaration, and without a way to ask a person."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "SSH_ASKPASS_REQUIRE": "never",
    }


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path under which a child of this process reads `content`, which touches no disk."""
    with os.fdopen(os.memfd_create("holdfast"), "wb", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _last_line(error: CommandFailed) -> str:
    lines = [line.strip() for line in error.outcome.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else error.message
