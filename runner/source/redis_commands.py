"""What a person types, with redis-cli and redis-server alone, to back a Redis server up and restore
it. Everything from the spec is quoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runner.source import Decode, Stored
from runner.source.redis_address import Address
from runner.source.redis_spot import Owned

DUMP = "dump.rdb"
KEYS = "keys.resp"
USERS = "users.json"
# Of the server that is started on the file, for as long as it is copied.
PORT = "export port=$((20000 + RANDOM % 10000))"
COPY = 'redis-cli -p "$port"'
BASE = "appendonly.aof.1.base.rdb"
MANIFEST = "appendonly.aof.manifest"

quote = shlex.quote


def client(address: Address) -> str:
    """redis-cli with its connection; the password comes from REDISCLI_AUTH."""
    if address.hidden:
        return 'redis-cli -u "$REDIS_URL"'
    words = ["redis-cli"]
    if address.socket:
        words += ["-s", address.socket]
    else:
        words += ["-h", address.host, "-p", str(address.port)]
    if address.user:
        words += ["--user", address.user]
    if address.tls:
        words.append("--tls")
        files = (("--cacert", address.tls.ca), ("--cert", address.tls.certificate),
                 ("--key", address.tls.key))  # fmt: skip
        for flag, file in files:
            words += [flag, file] if file else []
        words += [] if address.tls.verify else ["--insecure"]
    return shlex.join(words)


def capture_commands(name: str, address: Address) -> list[str]:
    """The server's own RDB."""
    return [
        *_password(address),
        f"{client(address)} --rdb {quote(f'{name}.rdb')}",
        f"{client(address)} ACL LIST > {quote(f'{name}.acl')}",
        f"zstd -3 -T0 --rm -- {quote(f'{name}.rdb')}",
    ]


def restore_commands(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Decode each artifact into the folder under a plain name."""
    lines = [f"mkdir -p -- {quote(folder)}"]
    lines += [f"{decode(one)} > {quote(f'{folder}/{_file_name(one)}')}" for one in stored]
    if any(one.form == "rdb" for one in stored):
        check = f'for file in {quote(folder)}/*.rdb; do redis-check-rdb "$file"; done'
        lines.append(f"if command -v redis-check-rdb > /dev/null; then {check}; fi")
    return lines


def load_commands(folder: str) -> list[str]:
    """Place the file in the data folder of a server that is stopped, whether or not it will use
    an append-only file: a server with one reads nothing else.
    """
    data = '"$REDIS_DATA_DIR"'
    log = f"{data}/appendonlydir"
    return [
        ': "${REDIS_DATA_DIR:?must name the data folder of the Redis server, which is stopped}"',
        f"mkdir -p -- {data}",
        *_aside(f"{data}/{DUMP}"),
        *_aside(log),
        *_aside(f"{data}/appendonly.aof"),
        f"if [ -e {quote(f'{folder}/{DUMP}')} ]; then",
        f"  cp -- {quote(f'{folder}/{DUMP}')} {data}/{DUMP}",
        "else",
        *(f"  {line}" for line in _replay(folder, data)),
        "fi",
        f"mkdir -p -- {log}",
        f"cp -- {data}/{DUMP} {log}/{BASE}",
        f"echo 'file {BASE} seq 1 type b' > {log}/{MANIFEST}",
        f"chown -R --reference={data} -- {data}/{DUMP} {log}",
    ]


def place_commands(folder: str, address: Address) -> list[str]:
    """Let the live server copy one that runs on the file: all of it, and nothing else stays."""
    live = client(address)
    kept, keys = f"{folder}.before-recovery", quote(f"{folder}/{KEYS}")
    start = (
        "redis-server --port \"$port\" --bind 127.0.0.1 --daemonize yes --save '' --appendonly no"
        " --repl-diskless-sync-delay 0"
        f' --dir "$PWD"/{quote(folder)} --dbfilename {DUMP} --databases 1024'
    )
    return [
        *_password(address),
        f"mkdir -p -- {quote(kept)}",
        f"{live} --rdb {quote(f'{kept}/{DUMP}')} || echo 'no safety copy could be taken'",
        PORT,
        start,
        _until(f"{COPY} INFO persistence | grep -q ^loading:0"),
        f"if [ -e {keys} ]; then {COPY} --pipe < {keys}; fi",
        f'{live} REPLICAOF 127.0.0.1 "$port"',
        _until(f"{live} INFO replication | grep -q ^master_link_status:up"),
        f"{live} REPLICAOF NO ONE",
        f"{COPY} SHUTDOWN NOSAVE || true",
    ]


def own_place_commands(folder: str, owned: Owned) -> list[str]:
    """Stop a server of this machine, place the file, and start it."""
    lines = load_commands(folder)[1:]
    stop, start = (
        f"(cd -- {quote(str(owned.folder))} && {text})" for text in (owned.stop, owned.start)
    )
    return [stop, f"REDIS_DATA_DIR={quote(str(owned.data))}", *lines, start]


def _file_name(stored: Stored) -> str:
    if stored.part == "acl":
        return USERS
    plain = DUMP if stored.form == "rdb" else KEYS
    return f"{stored.part}.{plain}" if stored.part else plain


def _password(address: Address) -> list[str]:
    if address.hidden:
        return [f"# first: export REDIS_URL=… (the {address.hidden})"]
    if address.password is None:
        return []
    return ["# first: export REDISCLI_AUTH=… (the password)"]


def _aside(path: str) -> list[str]:
    kept = f"{path}.before-recovery"
    return [f"if [ -e {path} ]; then mv --backup=numbered -T -- {path} {kept}; fi"]


def _replay(folder: str, data: str) -> list[str]:
    """Make an RDB of commands, by a server that runs on the folder meanwhile."""
    server = "redis-server --port \"$port\" --bind 127.0.0.1 --daemonize yes --save ''"
    return [
        PORT,
        f"{server} --appendonly no --dir {data} --dbfilename {DUMP} --databases 1024",
        _until(f"{COPY} PING > /dev/null"),
        f"{COPY} --pipe < {quote(f'{folder}/{KEYS}')}",
        f"{COPY} SHUTDOWN SAVE || true",
        f"test -e {data}/{DUMP}",
    ]


def _until(holds: str) -> str:
    """Wait for something that comes soon, but not for ever."""
    return f"timeout 3600 bash -c {quote(f'until {holds}; do sleep 1; done')}"
