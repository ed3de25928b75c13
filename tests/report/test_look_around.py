"""What `init` finds in a folder: files, and the servers that its .env and compose file name."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


def left_out(folder: Path) -> tuple[str, ...]:
    found = look_around(folder)
    return (*found.files_left_out, *found.servers_left_out)


def test_what_git_does_not_hold_is_told(tmp_path: Path) -> None:
    for path in (
        "app.py",
        "media/cat.jpg",
        "data/app.db",
        "data/export.csv",
        "venv/x",
        "cache.pyc",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "data" / "app.db").unlink()
    sqlite3.connect(tmp_path / "data" / "app.db").execute("create table t(x)").close()
    (tmp_path / "data" / "app.db-wal").touch()
    (tmp_path / ".env").touch()
    assert left_out(tmp_path) == ("app.py", "data/export.csv", "media/")
    (tmp_path / ".gitignore").write_text("media/\n.env\nkey\n")
    for words in (("init", "-q"), ("add", ".gitignore", "app.py")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert left_out(tmp_path) == ("data/export.csv", "media/")


def test_of_many_files_the_first_are_named(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number:02}").touch()
    assert left_out(tmp_path) == (*(f"{number:02}" for number in range(10)), "and 3 more")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ("DB_CONNECTION=mysql\nDB_DATABASE=shop", "the mysql server of DB_CONNECTION in .env"),
        ("DB_CONNECTION=pgsql", "the pgsql server of DB_CONNECTION in .env"),
        ("DB_ENGINE=django.db.backends.mysql", "the mysql server of DB_ENGINE in .env"),
        ("DATABASE_URL=mysql2://u:s3cret@h/shop", "the mysql2 server of DATABASE_URL in .env"),
        ("MONGO=mongodb+srv://u:s3cret@h/shop", "the mongodb server of MONGO in .env"),
    ],
)
def test_a_server_that_has_no_source_is_told(tmp_path: Path, environment: str, told: str) -> None:
    (tmp_path / ".env").write_text(f"{environment}\n")
    assert left_out(tmp_path) == (told,)


def test_containers_that_no_source_reaches_are_told(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "compose.yml").write_text("services: {db: {image: 'postgis/postgis:16'}}")
    (tmp_path / "compose.yml").write_text(COMPOSE + "  blog: {image: 'mariadb:11'}\n")
    (tmp_path / "docker-compose.prod.yml").write_text(
        "services: {db: {image: 'postgres:17'}, cache: {image: redis}, x: {image: redis-exporter}}"
    )
    (tmp_path / ".env").write_text("POSTGRES_DB=quay\n")
    assert look_around(tmp_path).servers_left_out == (
        "the service blog of compose.yml (mariadb:11)",
        "the service cache of docker-compose.prod.yml (redis)",
        "the service db of api/compose.yml (postgis/postgis:16)",
    )
    (tmp_path / ".env").write_text("A=postgres://127.0.0.1/quay\nB=redis://127.0.0.1/0\n")
    assert look_around(tmp_path).servers_left_out == (
        "the service blog of compose.yml (mariadb:11)",
    )


def test_a_first_spec_says_what_is_not_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / "odd\nname").mkdir(parents=True)
    (folder / ".env").write_text("DB_CONNECTION=mysql\n")
    answer = Inside(tmp_path)("init", "--file", "shop/backup.yaml", status=0)
    for text in (answer.stdout, (folder / "backup.yaml").read_text()):
        assert "NOT in it: odd?name/." in text
        assert "NOT in it: the mysql server of DB_CONNECTION in .env." in text
    first = (folder / "backup.yaml").read_text().splitlines()[0]
    assert Path(unquote(urlsplit(first.partition("=")[2]).path)).is_file()
    load_spec(folder / "backup.yaml", None)
    again = Inside(tmp_path)("init", "--file", "shop/backup.yaml", "--force", status=0)
    assert again.stdout == answer.stdout
    kept = Inside(tmp_path)("init", "--file", "shop/backup.yaml", "--tasks", status=0).stdout
    assert kept.startswith(f"Kept: {folder / 'backup.yaml'}")
    assert (folder / "tasks.py").is_file()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (None, None),
        ("", ".holdfast/ backups/ *.before-*."),
        ("/backups/\n.holdfast\n", "*.before-*."),
        (".holdfast/\nbackups/\n*.before-*\n", None),
    ],
)
def test_what_git_would_hold_of_ours_is_told(
    tmp_path: Path, lines: str | None, told: str | None
) -> None:
    (tmp_path / ".env").touch()
    if lines is not None:
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        (tmp_path / ".gitignore").write_text(lines)
    said = Inside(tmp_path)("init", status=0).stdout
    assert ("Add to .gitignore" in said) == (told is not None)
    assert told is None or f"Add to .gitignore: {told}" in said


def test_what_a_restore_kept_is_nothing_to_protect(tmp_path: Path) -> None:
    for name in ("shop.db", "shop.db.before-20261120t021500z7f3a9c"):
        with sqlite3.connect(tmp_path / name) as connection:
            connection.execute("create table orders (id)")
    (tmp_path / ".env.before-20261120t021500z7f3a9c").touch()
    found = look_around(tmp_path)
    assert found.sources == (("shop", "type: sqlite, path: shop.db"),)
    assert found.files_left_out == ()


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
