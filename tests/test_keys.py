"""Keys: made without losing another, and missed as long as nobody has tried them."""

from __future__ import annotations

from pathlib import Path

import pyrage

from tests.inside import Inside
from tests.service import SPEC, Service

WARNING = "has ever opened a snapshot with an identity"


def test_a_new_key_is_its_users_alone_and_opens_what_is_written_for_it(tmp_path: Path) -> None:
    document = Inside(tmp_path).json("keygen", "--out", "keys/quay.key")
    file = tmp_path / "keys" / "quay.key"
    assert document["file"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    sealed = pyrage.encrypt(b"hello", [pyrage.x25519.Recipient.from_str(document["recipient"])])
    secret = file.read_text().splitlines()[-1]
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(secret)]) == b"hello"


def test_a_key_that_exists_is_never_replaced_and_the_secret_is_never_shown(tmp_path: Path) -> None:
    holdfast = Inside(tmp_path)
    made = holdfast("keygen", "--out", "quay.key", status=0)
    before = (tmp_path / "quay.key").read_text()
    answer = holdfast("keygen", "--out", "quay.key", status=1)
    assert "could never be opened again" in answer.stderr
    assert (tmp_path / "quay.key").read_text() == before
    assert "AGE-SECRET-KEY" not in made.stdout + made.stderr + answer.stdout + answer.stderr


def test_status_warns_until_the_identity_was_tried(tmp_path: Path) -> None:
    recipient = Inside(tmp_path).json("keygen", "--out", "safe/key")["recipient"]
    spec = SPEC.replace("verify: stored", "verify: restored")
    spec += f"encryption: {{recipients: [{recipient}]}}\n"
    holdfast = Inside(Service(tmp_path / "service", spec).build().folder)
    holdfast("backup", "--no-prune", status=0)
    # Proven by a key of that run alone, which nobody keeps.
    assert WARNING in holdfast("status").stdout
    holdfast("verify", "--level", "readable", "--identity", tmp_path / "safe" / "key", status=0)
    assert WARNING not in holdfast("status").stdout


def test_a_drill_counts_although_what_it_opened_was_pruned(tmp_path: Path) -> None:
    recipient = Inside(tmp_path).json("keygen", "--out", "safe/key")["recipient"]
    plain = SPEC.replace("last: 3", "last: 1")
    service = Service(tmp_path / "service", plain).build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    holdfast("drill", status=0)
    spec = plain + f"encryption: {{recipients: [{recipient}]}}\n"
    (service.folder / "backup.yaml").write_text(spec)
    holdfast("backup", status=0)
    assert WARNING in holdfast("status").stdout, "nothing was encrypted then"
    holdfast("drill", "--identity", tmp_path / "safe" / "key", status=0)
    (opened, *_) = holdfast.json("list")["snapshots"]
    for _ in range(2):
        holdfast("backup", status=0)
    assert opened["id"] not in {one["id"] for one in holdfast.json("list")["snapshots"]}
    assert WARNING not in holdfast("status").stdout
