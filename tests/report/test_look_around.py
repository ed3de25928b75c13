"""What `init` finds in a folder: files, and the servers that its .env and compose file name."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.report.look_around import look_around
from runner.spec.load import load_spec
from tests.inside import Inside

COMPOSE = """\
services:
  bot: {build: .}
  db: {image: "postgres:16-alpine", environment: {POSTGRES_DB: quay}}
"""


def sources(folder: Path) -> dict[str, str]:
    return dict(look_around(folder).sources)


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert look_around(tmp_path).sources == ()


def test_files_of_two_databases_with_one_name_are_two_sources(tmp_path: Path) -> None:
    for folder in ("a", "b", "node_modules"):
        (tmp_path / folder).mkdir()
        sqlite3.connect(tmp_path / folder / "Bot.db").execute("create table t(x)").close()
    assert sources(tmp_path) == {
        "bot": "type: sqlite, path: a/Bot.db",
        "bot2": "type: sqlite, path: b/Bot.db",
    }


@pytest.mark.parametrize(
    ("line", "name", "options"),
    [
        (
            "DATABASE_URL=postgresql://quay:s3cret@127.0.0.1/quay",
            "main",
            'type: postgres, url: {secret: "env:DATABASE_URL"}',
        ),
        (
            "SHOP_DB_URL=postgresql+asyncpg://quay:s3cret@127.0.0.1/shop",
            "shop_db",
            'type: postgres, url: {secret: "env:SHOP_DB_URL"}',
        ),
        (
            "REDIS_URL=redis://:s3cret@127.0.0.1:6379/0",
            "cache",
            'type: redis, url: {secret: "env:REDIS_URL"}',
        ),
        (
            "POSTGRES_DB=quay\nPOSTGRES_PASSWORD=s3cret",
            "main",
            (
                "type: postgres, host: 127.0.0.1, dbname: quay, user: postgres, "
                'password: {secret: "env:POSTGRES_PASSWORD"}'
            ),
        ),
    ],
)
def test_a_server_of_the_env_file(tmp_path: Path, line: str, name: str, options: str) -> None:
    (tmp_path / ".env").write_text(f"TOKEN=x\n{line}\n")
    assert sources(tmp_path) == {name: options, "config": "type: files, paths: [.env]"}


def test_a_server_in_a_container_is_reached_there(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://quay:s3cret@db:5432/quay\n")
    options = 'type: postgres, exec: "docker compose exec -T db", dbname: quay, user: quay'
    assert sources(tmp_path)["main"] == options


def test_a_container_s_own_variables_are_enough(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("POSTGRES_DB=quay\nPOSTGRES_USER=quay\n")
    assert 'exec: "docker compose exec -T db"' in sources(tmp_path)["main"]


@pytest.mark.parametrize("text", ["services: [", "services: 3", "{}", "services: {db: null}"])
def test_a_compose_file_that_says_nothing_is_no_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "compose.yml").write_text(text)
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://quay@[db/quay\n")
    assert sources(tmp_path)["main"] == 'type: postgres, url: {secret: "env:DATABASE_URL"}'


def test_the_same_server_twice_is_one_source(tmp_path: Path) -> None:
    url = "redis://127.0.0.1/0"
    (tmp_path / ".env").write_text(f"REDIS_URL={url}\nCELERY_BROKER_URL={url}\n")
    assert set(sources(tmp_path)) == {"cache", "config"}


def test_a_word_that_chooses_a_driver_names_no_server(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CACHE_DRIVER=redis\nDB_CONNECTION=postgres\n")
    assert set(sources(tmp_path)) == {"config"}


def test_names_that_yaml_or_a_spec_would_read_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    folder = tmp_path / "null"
    folder.mkdir()
    for name in ("null", "~", "~root", "2024", "1.0", "-", "on", "$HOME.db"):
        sqlite3.connect(folder / name).execute("create table t(x)").close()
    Inside(tmp_path)("init", "--file", "null/backup.yaml", status=0)
    spec = load_spec(folder / "backup.yaml", None)
    assert spec.project == "null"
    paths = {Path(one.options["path"]) for one in spec.sources.values()}
    assert {folder / path for path in paths} == set(folder.iterdir()) - {spec.file}


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff.db")
    sqlite3.connect(tmp_path / "good.db").execute("create table t(x)").close()
    (tmp_path / "good.db").rename(tmp_path / name)
    with pytest.raises(UsageError, match=r"bad\\xff\.db is not UTF-8"):
        look_around(tmp_path)


def test_a_folder_that_may_only_be_listed_is_passed_over() -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        (Path(base) / "listed").mkdir()
        (Path(base) / "listed" / "file").touch()
        (Path(base) / "listed").chmod(0o744 if os.geteuid() == 0 else 0o600)
        assert as_nobody(lambda: str(sources(Path(base)))) == "{}"
        (Path(base) / "listed").chmod(0o700)


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` answers in a process of a user who may read nothing of root's."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(theirs, work().encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with os.fdopen(ours) as answer:
        return answer.read()
