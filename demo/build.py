"""The demo's stack: a small game bot with a database, a configuration and a repository."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path

PLAYERS = 5_000
ITEMS = 300
TRADES = 8_000
SEED = 20_261_120

SCHEMA = """
create table players (
    id integer primary key,
    name text not null unique,
    coins integer not null check (coins >= 0),
    joined text not null
);
create table items (id integer primary key, name text not null, rarity text not null);
create table inventory (
    player_id integer not null references players (id),
    item_id integer not null references items (id),
    amount integer not null,
    primary key (player_id, item_id)
) without rowid;
create table trades (
    id integer primary key,
    seller integer not null references players (id),
    buyer integer not null references players (id),
    item_id integer not null references items (id),
    price integer not null
);
create index trades_by_item on trades (item_id, price);
create view richest as select name, coins from players order by coins desc limit 10;
pragma user_version = 7;
"""

SELFTEST = '''"""The bot's own test: can it open its database and read its configuration?"""

import pathlib
import sqlite3

stack = pathlib.Path(__file__).resolve().parent.parent
database = sqlite3.connect(f"file:{stack / 'data' / 'quaybot.db'}?mode=ro", uri=True)
(players,) = database.execute("select count(*) from players").fetchone()
broken = database.execute("pragma foreign_key_check").fetchall()
assert not broken, f"{len(broken)} broken references"
assert "QUAYBOT_TOKEN=" in (stack / ".env").read_text()
print(f"self-test: {players} players, no broken reference, a token")
'''

# What belongs to one machine, and the safety copies that a restore leaves beside it.
IGNORED = """/data/
/.env
/config/
/docker-compose.yml
/bot.running
__pycache__/
*.before-*
"""

COMPOSE = """services:
  bot:
    image: python:3.12-slim
    command: python -m bot
    env_file: .env
    volumes: [./data:/srv/data, ./config:/srv/config:ro]
"""


def build(stack: Path) -> None:
    """Make the whole stack anew in the empty or missing folder `stack`."""
    stack.mkdir(parents=True)
    _code(stack)
    _configuration(stack)
    _database(stack / "data" / "quaybot.db")
    (stack / "bot.running").write_text("2026-11-20T02:00:00Z\n")


def wreck(stack: Path) -> None:
    """Destroy it: the database deleted, the configuration scrambled, the repository gone."""
    shutil.rmtree(stack / "data")
    noise = random.Random(SEED)
    for path in sorted([stack / ".env", *(stack / "config").rglob("*")]):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(noise.randbytes(path.stat().st_size))
    shutil.rmtree(stack / ".git")
    shutil.rmtree(stack / "bot")
    for name in ("docker-compose.yml", "README.md", "bot.running"):
        (stack / name).unlink(missing_ok=True)


def _database(path: Path) -> None:
    path.parent.mkdir()
    chance = random.Random(SEED)
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = wal")
    database.executescript(SCHEMA)
    with database:
        database.executemany(
            "insert into players values (?, ?, ?, date('2024-01-01', ?))",
            (
                (n, f"player-{n:05}", chance.randrange(100_000), f"+{n % 900} days")
                for n in range(1, PLAYERS + 1)
            ),
        )
        database.executemany(
            "insert into items values (?, ?, ?)",
            (
                (n, f"item-{n}", chance.choice(["common", "rare", "mythic"]))
                for n in range(1, ITEMS + 1)
            ),
        )
        database.executemany(
            "insert into inventory values (?, ?, ?)",
            (
                (player, item, chance.randrange(1, 100))
                for player in range(1, PLAYERS + 1)
                for item in chance.sample(range(1, ITEMS + 1), 4)
            ),
        )
        database.executemany(
            "insert into trades values (?, ?, ?, ?, ?)",
            (
                (
                    n,
                    *chance.sample(range(1, PLAYERS + 1), 2),
                    chance.randrange(1, ITEMS + 1),
                    chance.randrange(1, 5_000),
                )
                for n in range(1, TRADES + 1)
            ),
        )
    database.close()


def _configuration(stack: Path) -> None:
    (stack / ".env").write_text("QUAYBOT_TOKEN=not-a-real-token\nQUAYBOT_CHANNEL=harbour\n")
    (stack / ".env").chmod(0o600)
    (stack / "docker-compose.yml").write_text(COMPOSE)
    config = stack / "config"
    (config / "languages").mkdir(parents=True)
    (config / "bot.toml").write_text('prefix = "!"\n[economy]\nstart_coins = 100\ntax = 0.02\n')
    for language, greeting in {"en": "Welcome", "de": "Moin", "fr": "Bienvenue"}.items():
        (config / "languages" / f"{language}.toml").write_text(f'greeting = "{greeting}"\n')
    (config / "default.toml").symlink_to("bot.toml")
    hook = config / "on-start.sh"
    hook.write_text("#!/bin/sh\necho ready\n")
    hook.chmod(0o755)
    (config / "Häfen & Kaïs.txt").write_text("Hamburg\nRotterdam\n")
    for path in [stack / ".env", stack / "docker-compose.yml", *config.rglob("*"), config]:
        os.utime(path, (1_790_000_000, 1_790_000_000), follow_symlinks=False)


def _code(stack: Path) -> None:
    _git(stack, "init", "--quiet", "--initial-branch=main")
    _write(stack / ".gitignore", IGNORED)
    _write(stack / "README.md", "# Quaybot\n")
    _commit(stack, "Start")
    _write(stack / "bot" / "__init__.py", '"""A trading game for chat rooms."""\n')
    _write(stack / "bot" / "economy.py", "def tax(price):\n    return price * 2 // 100\n")
    _commit(stack, "Add the economy")
    _write(stack / "bot" / "selftest.py", SELFTEST)
    _commit(stack, "Let the bot test itself")
    _git(stack, "tag", "--annotate", "v1.0", "--message", "The first release")
    _git(stack, "switch", "--quiet", "--create", "auctions")
    _write(stack / "bot" / "auctions.py", "def highest(bids):\n    return max(bids)\n")
    _commit(stack, "Draft the auctions")
    _git(stack, "switch", "--quiet", "main")
    _write(stack / "bot" / "economy.py", "def tax(price):\n    return price // 50\n")
    _commit(stack, "Simplify the tax")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _commit(stack: Path, message: str) -> None:
    _git(stack, "add", "--all")
    _git(stack, "commit", "--quiet", "--message", message)


def _git(stack: Path, *arguments: str) -> None:
    person = {"NAME": "Mara Quay", "EMAIL": "mara@quay.example", "DATE": "2026-11-01T12:00:00Z"}
    roles = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in person.items()}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(stack),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    subprocess.run(["git", *arguments], cwd=stack, env=environment | roles, check=True)
