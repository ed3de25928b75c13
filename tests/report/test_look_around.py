"""What `init` finds in a folder: files, and the servers that its .env and compose file name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from runner.report.look_around import look_around

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
