"""Rekey at a bucket of a true server: what is locked, and credentials that may only write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ceph_server import CephServer
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.target.off_site import SECOND
from tests.target.test_s3_ceph import append_only, declared
from tests.test_rekey import REKEY, declare, ids, make_key

pytestmark = pytest.mark.xdist_group("ceph")


def rekeyed(folder: Path, target: str) -> Inside:
    """A service with one snapshot for an old key, whose spec names a new one since."""
    spec = SPEC.replace(SECOND, f"offsite: {target}")
    service = Service(folder / "service", spec).build()
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    holdfast = Inside(service.folder)
    declare(service, old, spec=spec)
    holdfast("backup", status=0)
    declare(service, new, spec=spec)
    return holdfast


def test_what_the_server_holds_stays_and_is_told(ceph_server: CephServer, tmp_path: Path) -> None:
    bucket = ceph_server.make_bucket(locking=True)
    holdfast = rekeyed(tmp_path, declared(ceph_server.options(bucket), lock="30d"))
    (before,) = ids(holdfast)
    for _ in range(2):
        document = holdfast.json(*REKEY, status=4)
        (left,) = document["left"]
        assert (left["id"], left["target"]) == (before, "offsite")
        assert "locked until" in left["reason"]
        newest, old = ids(holdfast, "--target", "offsite")
        assert old == before
        # The new one is held as declared, too.
        assert holdfast.json("verify", "--target", "offsite", "--snapshot", newest)["ok"]
    assert ids(holdfast, "--target", "disk") == [newest]


def test_credentials_that_may_only_write_leave_the_old_one(
    ceph_server: CephServer, tmp_path: Path
) -> None:
    bucket = ceph_server.make_bucket()
    writing = declared(ceph_server.options(bucket, append_only(ceph_server, bucket)))
    holdfast = rekeyed(tmp_path, writing)
    document = holdfast.json(*REKEY, status=4)
    (left,) = document["left"]
    assert left["target"] == "offsite"
    assert "holdfast rekey --target offsite" in left["reason"]
    assert len(ids(holdfast, "--target", "offsite")) == 2
    spec = holdfast.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace(writing, declared(ceph_server.options(bucket))))
    assert holdfast.json(*REKEY)["removed"] == [{"id": left["id"], "target": "offsite"}]
