"""PostgreSQL over TLS: the server's certificate is looked at, and the client may have its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from tests.postgres_server import Cluster, Database, give_away
from tests.source.postgres_restored import captured, opened, place_at, proven, small
from tests.tools import require_program

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def request(folder: Path, name: str, subject: str, *more: str) -> None:
    """Make a key, and a certificate for it that is valid for a day."""
    openssl = require_program("openssl")
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    subprocess.run(
        [openssl, "req", "-x509", "-days", "1", *KEY, *files, "-subj", f"/CN={subject}", *more],
        check=True,
        capture_output=True,
    )
    (folder / f"{name}.key").chmod(0o600)


def signed(folder: Path, name: str, subject: str, alternative: str) -> None:
    """The same, signed by the authority `ca` of that folder."""
    by = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
    extensions = [
        "-addext",
        f"subjectAltName={alternative}",
        "-addext",
        "basicConstraints=CA:FALSE",
    ]
    request(folder, name, subject, *by, *extensions)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with an authority, a stranger, a server's certificate and nobody else's."""
    folder = tmp_path / "keys"
    folder.mkdir()
    request(folder, "ca", "Our Authority")
    request(folder, "stranger", "Another Authority")
    signed(folder, "server", "db", "IP:127.0.0.1")
    return folder


@pytest.fixture
def app(database: Database, keys: Path) -> Iterator[Database]:
    """A database whose server speaks TLS, and lets its owner in with a certificate alone."""
    cluster = database.cluster
    for name in ("ca.crt", "server.crt", "server.key"):
        shutil.copy(keys / name, cluster.data / name)
        give_away(cluster.data / name)
        (cluster.data / name).chmod(0o600)
    rules = cluster.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f'hostssl "{database.name}" "{database.owner}" all cert\n{before}')
    settings = {"ssl": "on", "ssl_ca_file": "ca.crt"}
    cluster.execute(*(f"ALTER SYSTEM SET {name} = '{to}'" for name, to in settings.items()))
    reload(cluster)
    small(database)
    database.execute(f'GRANT pg_read_all_data TO "{database.owner}"')
    yield database
    rules.write_text(before)
    cluster.execute(*(f"ALTER SYSTEM RESET {name}" for name in settings))
    reload(cluster)


def reload(cluster: Cluster) -> None:
    """Let the server read its configuration anew, and wait until it has."""
    loaded = "SELECT pg_conf_load_time()"
    before = cluster.rows(loaded)
    cluster.execute("SELECT pg_reload_conf()")
    while cluster.rows(loaded) == before:
        pass


def options(keys: Path, **more: Any) -> dict[str, Any]:
    return {"sslmode": "verify-full", "sslrootcert": str(keys / "ca.crt")} | more


def test_a_server_whose_certificate_is_right(app: Database, keys: Path, tmp_path: Path) -> None:
    source = opened(app, tmp_path, **options(keys))
    proven(source, captured(source, tmp_path), place_at(tmp_path, "copy"))
    source.discard(place_at(tmp_path, "copy"))


def test_a_client_with_its_own_certificate(app: Database, keys: Path, tmp_path: Path) -> None:
    signed(keys, "client", app.owner, "DNS:client")
    one_table = options(keys, tables=["public.players"])
    with_it = one_table | {"sslcert": str(keys / "client.crt"), "sslkey": str(keys / "client.key")}
    artifacts = captured(opened(app, tmp_path, app.owner, **with_it), tmp_path)
    assert artifacts.fingerprint["databases"]
    with pytest.raises(StepFailed, match="certificate"):
        captured(opened(app, tmp_path, app.owner, **one_table), tmp_path / "without")


@pytest.mark.parametrize(
    "wrong",
    [{"sslrootcert": "stranger.crt"}, {"host": "localhost"}],
    ids=["signed by nobody we know", "made for another name"],
)
def test_a_server_that_could_be_anybody(
    app: Database, keys: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    given = {key: str(keys / to) if key == "sslrootcert" else to for key, to in wrong.items()}
    with pytest.raises(StepFailed, match="certificate") as told:
        captured(opened(app, tmp_path, **options(keys, **given)), tmp_path)
    assert "sslrootcert" in told.value.remedy
