"""What a person types, with redis-cli and redis-server alone, to back a Redis server up and restore
it. Everything from the spec is quoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from runner.secret import Secret
from runner.source import Decode, Stored
from runner.source.redis_address import Address
from runner.source.redis_choose import Chosen, named
from runner.source.redis_spot import Owned

DUMP = "dump.rdb"
KEYS = "keys.resp"
USERS = "users.json"
# Of the server that is started on the file, for as long as it is copied.
PORT = "export port=$((20000 + RANDOM % 10000))"
SERVER = '"$server" --port "$port" --bind 127.0.0.1 --save \'\' --appendonly no --databases 16384'
COPY = 'redis-cli -p "$port"'
LOADED = f"{COPY} INFO persistence 2> /dev/null | grep -q ^loading:0"
ALIVE = 'kill -0 "$scratch" 2> /dev/null'
COPIER = "recovery"  # a user of that server
NO_ANSWER = "the server does not answer: start it, and name its password in REDISCLI_AUTH"

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


def capture_commands(name: str, address: Address, chosen: Chosen) -> list[str]:
    """The server's own RDB."""
    kept = [] if chosen is None else [f"# of the whole server; {named(chosen)} of it will be kept"]
    return [
        *_password(address),
        *kept,
        f"{client(address)} --rdb {quote(f'{name}.rdb')}",
        f"{client(address)} ACL LIST > {quote(f'{name}.acl')}",
        f"zstd -3 -T0 --rm -- {quote(f'{name}.rdb')}",
    ]


def restore_commands(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Decode each artifact into the folder under a plain name."""
    lines = [f"mkdir -p -- {quote(folder)}"]
    lines += [f"{decode(one)} > {quote(f'{folder}/{_file_name(one)}')}" for one in stored]
    if any(one.form == "rdb" for one in stored):
        lines += _checked(folder)
    return lines


def load_commands(folder: str, chosen: Chosen = None) -> list[str]:
    """Place the file in the data folder of a server that is stopped, whether or not it will use
    an append-only file: a server with one reads nothing else.
    """
    data = '"$REDIS_DATA_DIR"'
    return [
        *([] if chosen is None else _beside(folder, chosen)),
        ': "${REDIS_DATA_DIR:?must name the data folder of the Redis server, which is stopped}"',
        "# REDIS_… of what redis.conf calls otherwise: dbfilename, appenddirname, appendfilename",
        'dump="$REDIS_DATA_DIR/${REDIS_DBFILENAME:-dump.rdb}"',
        'log="$REDIS_DATA_DIR/${REDIS_APPENDDIRNAME:-appendonlydir}"',
        'name="${REDIS_APPENDFILENAME:-appendonly.aof}"',
        *_chosen(folder),
        f"mkdir -p -- {data}",
        *_aside('"$dump"'),
        *_aside('"$log"'),
        *_aside('"$REDIS_DATA_DIR/$name"'),
        'if [ -e "$file" ]; then',
        '  cp -- "$file" "$dump"',
        "else",
        *(f"  {line}" for line in _replay(folder, data)),
        "fi",
        'mkdir -p -- "$log"',
        'cp -- "$dump" "$log/$name.1.base.rdb"',
        'echo "file \\"$name.1.base.rdb\\" seq 1 type b" > "$log/$name.manifest"',
        f'chown -R --reference={data} -- "$dump" "$log"',
    ]


def some_place_commands(folder: str, address: Address, chosen: frozenset[int]) -> list[str]:
    """Empty those of these databases that come back, and bring their keys in: all others stay."""
    live, keys = client(address), quote(f"{folder}/{KEYS}")
    more = f"it holds more than {named(chosen)}: see RESTORE.md, and take that of it"
    lacking = "the server has no such database: raise `databases` in its configuration"
    ours = "|".join(map(str, sorted(chosen)))
    found = f"LC_ALL=C grep -a -x -A 2 -e $'SELECT\\r' -e $'FUNCTION\\r' {keys} | tr -d '\\r'"
    return [
        _client(),
        *_password(address),
        f"test -e {keys} || {{ {_say(more)}; }}",
        # A snapshot from before the spec named these may hold any.
        f"held=$({found} | grep -x -e '[0-9]*' -e FUNCTION | sort -u || true)",
        f"for one in $held; do case $one in {ours}) ;; *) {_say(more)} ;; esac; done",
        *_copied(folder, live),
        "# that copy is of the whole server: to undo this, take no other database of it",
        # Where there is none, some redis-cli go on in the first, and keys would follow.
        f"for one in $held; do {live} SELECT $one | grep -qx OK || {{ {_say(lacking)}; }}; done",
        f"for one in $held; do {live} -n $one FLUSHDB; done",
        f"{live} --pipe < {keys}",
    ]


def _say(why: str) -> str:
    return f"echo {quote(why)} >&2; false"


def place_commands(folder: str, address: Address) -> list[str]:
    """Let the live server copy one that runs on the file: all of it, and nothing else stays."""
    live = client(address)
    keys = quote(f"{folder}/{KEYS}")
    start = (
        f'{SERVER} --repl-diskless-sync-delay 0 --dir "$PWD"/{quote(folder)} --dbfilename {DUMP}'
        f" > {quote(f'{folder}.log')} 2>&1 &"
    )
    gone = (
        f"{{ cat {quote(f'{folder}.log')} >&2;"
        ' echo "this $server cannot load the file: is it older than the one that wrote it?" >&2;'
        ' kill "$scratch" || true; false; }'
    )
    whole = f"test -e {quote(f'{folder}/{DUMP}')} || test -e {keys}"
    return [
        _client(),
        *_password(address),
        # Of nothing at all, an empty server would be copied.
        f"{whole} || {{ echo 'a cluster: see RESTORE.md for each primary' >&2; false; }}",
        *_copied(folder, live),
        *_server(f"{folder}/{DUMP}"),
        PORT,
        start,
        "export scratch=$!",
        f"{_until(LOADED, ALIVE)} || {gone}",
        f"if [ -e {keys} ]; then {COPY} --pipe < {keys}; fi",
        # With a `masterauth` the live server says a password, and another server wants to know it.
        f"{COPY} ACL SETUSER {COPIER} on nopass '~*' '&*' +@all",
        f"name=$({live} CONFIG GET masteruser | sed -n 2p || true)",
        f"{live} CONFIG SET masteruser {COPIER}",
        "copied=no",
        f'if {live} REPLICAOF 127.0.0.1 "$port" | tee /dev/stderr | grep -q ^OK; then',
        f"  {_until(f'{live} INFO replication | grep -q ^master_link_status:up', ALIVE)} &&",
        "    copied=yes",
        "fi",
        f"{live} REPLICAOF NO ONE",
        f'{live} CONFIG SET masteruser "$name"',
        f"{COPY} SHUTDOWN NOSAVE || true",
        'test "$copied" = yes',
    ]


def own_place_commands(folder: str, owned: Owned, address: Address) -> list[str]:
    """Stop a server of this machine, place the file, and start it."""
    lines = load_commands(folder)[1:]
    stop, start = (
        f"(cd -- {quote(str(owned.folder))} && {text})" for text in (owned.stop, owned.start)
    )
    asked = [
        f"REDIS_{name.upper()}=$({client(address)} CONFIG GET {name} 2> /dev/null"
        " | sed -n 2p || true)"
        for name in ("dbfilename", "appenddirname", "appendfilename")
    ]
    place = f"REDIS_DATA_DIR={quote(str(owned.data))}"
    return [_client(), *_password(address), *asked, stop, place, *lines, start]


def _beside(folder: str, chosen: Iterable[int]) -> list[str]:
    return [
        f"# The server will hold {named(chosen)} alone. Beside what a running one holds:",
        f"# redis-cli --pipe < {quote(f'{folder}/{KEYS}')}",
    ]


def _copied(folder: str, live: str) -> list[str]:
    """Keep what the live server holds, once it answers."""
    kept = f"{folder}.before-recovery"
    return [
        f"{live} PING | grep -qx PONG || {{ echo {quote(NO_ANSWER)} >&2; false; }}",
        f"mkdir -p -- {quote(kept)}",
        f"{live} --rdb {quote(f'{kept}/{DUMP}')} || echo 'no safety copy could be taken'",
    ]


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
    password = address.password
    where = f" in {password.reference}" if isinstance(password, Secret) else ""
    return [f"# first: export REDISCLI_AUTH=… (the password{where})"]


def _aside(path: str) -> list[str]:
    kept = f"{path}.before-recovery"
    return [f"if [ -e {path} ]; then mv --backup=numbered -T -- {path} {kept}; fi"]


def _chosen(folder: str) -> list[str]:
    """What is placed: of a cluster, the part of the primary whose folder it is."""
    keys = quote(f"{folder}/{KEYS}")
    wanted = f"must name the file of this primary: {folder}/slot-...{DUMP}"
    return [
        f"file={quote(f'{folder}/{DUMP}')}",
        f'if [ ! -e "$file" ] && [ ! -e {keys} ]; then file="${{REDIS_RDB:?{wanted}}}"; fi',
    ]


def _replay(folder: str, data: str) -> list[str]:
    """Make an RDB of commands, by a server that runs on the folder meanwhile."""
    log = quote(f"{folder}.log")
    start = f'{SERVER} --dir {data} --dbfilename "${{dump##*/}}" > {log} 2>&1 &'
    return [
        _client(),
        *_server(f"{folder}/{DUMP}"),
        PORT,
        start,
        "export scratch=$!",
        f"{_until(f'{COPY} PING > /dev/null', ALIVE)} || {{ cat {log} >&2; false; }}",
        f"{COPY} --pipe < {quote(f'{folder}/{KEYS}')}",
        f"{COPY} SHUTDOWN SAVE || true",
        'wait "$scratch" || true',
        'test -e "$dump"',
    ]


def _until(holds: str, needs: str) -> str:
    """Wait for something that comes soon, but not for ever, nor without what it needs."""
    loop = f"until {holds}; do {needs}; sleep 1; done"
    return f"timeout 3600 bash -e -c {quote(loop)}"


def _checked(folder: str) -> list[str]:
    """Let the program of the server that wrote a file read it: the other knows no such file, and
    one of this machine may be older than the server, which may run in a container.
    """
    of_valkey = _of_valkey('"$file"')
    return [
        f"for file in {quote(folder)}/*.rdb; do",
        "  check=redis-check-rdb",
        f"  if {of_valkey}; then check=valkey-check-rdb; fi",
        '  if ! command -v "$check" > /dev/null; then continue; fi',
        '  said=$("$check" "$file" 2>&1) || case "$said" in',
        '    *"handle RDB format version"*) echo "not checked: $check is too old for it" >&2 ;;',
        "    *) printf '%s\\n' \"$said\" >&2; false ;;",
        "  esac",
        "done",
    ]


def _server(file: str) -> list[str]:
    """The server's program that reads a file."""
    missing = '! command -v "$server" > /dev/null'
    return [
        "server=redis-server",
        f"if {_of_valkey(quote(file))} || {missing}; then server=valkey-server; fi",
    ]


def _client() -> str:
    """Where there is Valkey alone, its client has another name."""
    return (
        "if ! command -v redis-cli > /dev/null; then"
        ' redis-cli() { valkey-cli "$@"; }; export -f redis-cli; fi'
    )


def _of_valkey(file: str) -> str:
    """Valkey 9 and later begins its files with its name."""
    return f'[ "$(head -c 6 -- {file} 2> /dev/null)" = VALKEY ]'
