"""What a person types to dump, decode and load PostgreSQL databases with ordinary tools."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from runner.secret import Secret
from runner.source import Decode, Stored
from runner.source.postgres_behind import WITH_LIST
from runner.source.postgres_programs import FROM_STDIN, through_ssh
from runner.source.postgres_server import Server

quote = shlex.quote

GLOBALS = "globals"
# The fields of a spec that client programs also read from variables.
VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}

# Names are bytes, whatever their encoding. Nobody's data is in `template1`: whatever else is
# renamed, one can connect to it. Nothing that was dumped is a command to psql.
_ASK = r"""
export LC_ALL=C
ask() { PREFIXpsql -X -q -A -t -v ON_ERROR_STOP=1 -d template1 "$@"; }
fenced() { cat; }
if ask > /dev/null 2>&1 <<< '\restrict x'; then
  key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  fenced() { printf '\\restrict %s\n' "$key"; cat; printf '\\unrestrict %s\n' "$key"; }
fi
"""

# What exists is altered, nothing is dropped, and the role that does it stays what it is. Who once
# granted a membership need not be allowed to here. Who may make no roles can still restore
# where all exist. A folder of a tablespace is another machine's: what was in one goes to the
# default.
_ROLES = r"""
if [ -e FOLDER/globals.sql ]; then
  may=$(ask <<< 'SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user')
  if [ "$may" != t ]; then
    echo 'This role may make no roles: whichever the server lacks, a superuser makes first.' >&2
  fi
  me=$(ask <<< "SELECT format('\"%s\"', replace(current_user, '\"', '\"\"'))")
  export me
  [ "$may" != t ] || awk '
    /^\\/ || /^(CREATE|ALTER|COMMENT ON|(GRANT|REVOKE) [A-Z, ]+ ON) TABLESPACE / { next }
    index($0, "ALTER ROLE " ENVIRON["me"] " ") == 1 { next }
    /^CREATE ROLE .*;$/ {
      sub(/;$/, "")
      print "DO $made$ BEGIN " $0 "; EXCEPTION WHEN duplicate_object THEN NULL; END $made$;"
      next
    }
    /^GRANT "/ { sub(/ GRANTED BY "([^"]|"")*";$/, ";") }
    { print }
  ' FOLDER/globals.sql | fenced | ask
fi
"""

# A restored database may be one that by itself only reads, or writes sums of money otherwise.
# Owners and rights can come back only where those roles are there, and where who restores may act
# as the owners; names are quoted in a dump. The triggers of a table come after its rows, which they
# would change, and event triggers after all that they would forbid. A materialized view that cannot
# be computed any more stops nothing else. A new database lies in the default tablespace, as all
# that is in it, and has a schema `public`: a dump that makes one too would fail. One of tables
# alone makes none. Only its owner comments on it. pg_dump 15 and later name a locale in words that
# older servers do not know, and leave out what everybody may do in `public` where that is as it is
# at first since 15. pg_restore 17 and later begin with a setting that older servers do not know.
_DATABASES = r"""
export PGOPTIONS="${PGOPTIONS-} -c default_transaction_read_only=off -c lc_monetary=C"
fill() { restore $jobs "$@" -d "$into"; }
unknown='SET transaction_timeout = 0;'
major=$(PREFIXpg_restore --version < /dev/null | sed -E 's/[^0-9]*([0-9]+).*/\1/')
if [ "$major" -ge 17 ] && ! ask <<< "$unknown" 2> /dev/null; then
  fill() (
    set -o pipefail
    restore --file=- "$@" | sed "0,/^$unknown\$/{//d}" | inside > /dev/null
  )
fi
for dump in FOLDER/*; do
  case "$dump" in *globals.sql) continue ;; esac
  name=$(contents | sed -n 's/^; *dbname: //p' | sed -n 1p)
ASIDE
  into="dbname='$(sed "s/[\\\\']/\\\\&/g" <<< "$name")'"
  inside() { PREFIXpsql -X -q -A -t -v ON_ERROR_STOP=1 -d "$into" "$@"; }
  there=$(ask -v name="$name" <<< "SELECT count(*) FROM pg_database WHERE datname = :'name'")
  full=0
  if [ "$there" != 0 ]; then
    full=$(inside <<< "SELECT count(*) FROM pg_class c, pg_namespace n
      WHERE n.oid = c.relnamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'")
  fi
  if [ "$full" != 0 ]; then
    printf 'The database %s is there and is not empty.\n' "$name" >&2
    exit 1
  fi
  owners=
  role='("([^"]|"")+")'
  named=$(definitions --create | sed -nE "s/'/''/g; h
    s/^ALTER .* OWNER TO $role;$/, ('\1', true)/p; g
    s/^(ALTER DEFAULT PRIVILEGES FOR ROLE|SET SESSION AUTHORIZATION) $role.*/, ('\2', true)/p; g
    s/^(GRANT|ALTER DEFAULT PRIVILEGES) .* TO $role( WITH GRANT OPTION)?;$/, ('\2', false)/p" |
    sort -u)
  lacking=$(fenced <<< "SELECT DISTINCT role
    FROM (VALUES ('pg_monitor', false)$named) AS named (role, acts), pg_roles me
    WHERE me.rolname = current_user AND NOT EXISTS (SELECT FROM pg_roles r
      WHERE r.oid = to_regrole(role) AND (r.oid = me.oid OR me.rolsuper OR NOT acts))" | ask)
  if [ -n "$lacking" ]; then
    owners='--no-owner --no-acl'
    printf '%s comes without owners and rights: %s\n%s\n' "$name" \
      'these roles are not there, or who restores may not act as them:' "$lacking" >&2
  fi
  list=$(mktemp)
  if [ "$there" = 0 ]; then
    contents --create | grep -aE '^[0-9; ]+ ([A-Z ]+ - )?DATABASE ' > "$list"
    older=$(ask <<< "SELECT current_setting('server_version_num')::int < 150000")
    words='s/^(CREATE DATABASE .*) LOCALE_PROVIDER = libc/\1/'
    words="$words; s/^(CREATE DATABASE .*) LOCALE = ('[^']*')/\1 LC_COLLATE = \2 LC_CTYPE = \2/"
    restore --create --file=- |
      sed -E -e '/^\\/d' -e "/^$unknown\$/d" -e 's/^(CREATE DATABASE .*) TABLESPACE = .*;$/\1;/' \
        -e "$([ "$older" = f ] || printf %s "$words")" |
      fenced | ask > /dev/null
    by=$(contents | sed -n 's/^; *Dumped by pg_dump version: \([0-9]*\).*/\1/p')
    case "$older$((${by:-0} < 15))" in
      t0) word='REVOKE CREATE ON SCHEMA public FROM PUBLIC' ;;
      f1) word='GRANT CREATE ON SCHEMA public TO PUBLIC' ;;
      *) word= ;;
    esac
    inside <<< "$word"
  fi
  if ! contents | grep -aq ' SCHEMA - '; then
    contents | grep -avE '^[0-9; ]+ ([A-Z]+ )+(DATA|ATTACH|SET|OWNED BY) ' |
    sed -nE 's/^[0-9; ]+ (TABLE|VIEW|MATERIALIZED VIEW|FOREIGN TABLE|SEQUENCE) ([^ ]+) .*/\2/p' |
    while IFS= read -r schema; do
      inside -v schema="$schema" \
        <<< 'SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS :"schema"'
    done
  fi
  contents > "$list"
  if definitions | grep -acx 'CREATE SCHEMA "public";'; then
    sed -i '/ SCHEMA - public /d' "$list"
  fi > /dev/null
  own=$(inside <<< "SELECT pg_has_role(nspowner, 'USAGE')
    FROM pg_namespace WHERE nspname = 'public'")
  if [ "$own" = f ]; then sed -i -E '/ COMMENT - SCHEMA "?public"? /d' "$list"; fi
  fill --section=pre-data --section=data
  sed -nE '/^[0-9; ]+ ([A-Z ]+ - )?EVENT TRIGGER /p' "$list" > "$list.last"
  sed -nE '/^[0-9; ]+ MATERIALIZED VIEW DATA /p' "$list" > "$list.views"
  sed -i -E '/^[0-9; ]+ (([A-Z ]+ - )?EVENT TRIGGER|MATERIALIZED VIEW DATA) /d' "$list"
  fill --section=post-data
  while IFS= read -r view; do
    printf '%s\n' "$view" > "$list"
    fill --section=post-data < /dev/null ||
      printf 'This materialized view stays empty: %s\n' "$view" >&2
  done < "$list.views"
  list="$list.last" fill --section=post-data
  rm -- "$list" "$list.last" "$list.views"
done
"""

_FILES = r"""
jobs="--jobs=$(nproc)"
contents() { pg_restore --list "$@" "$dump"; }
definitions() { pg_restore --schema-only --file=- "$@" "$dump"; }
restore() { pg_restore --exit-on-error --no-tablespaces $owners --use-list="$list" "$@" "$dump"; }
"""

# Where no file of ours is at hand: the list and the dump come by the same input, of which a program
# reads no more than it needs.
_STREAMS = r"""
jobs=
contents() { behind pg_restore --list "$@" < "$dump"; }
definitions() { behind pg_restore --schema-only --file=- "$@" < "$dump"; }
restore() {
  { cat -- "$list" "$dump" || true; } | behind sh -c WITH_LIST sh "$(wc -c < "$list")" \
    pg_restore --exit-on-error --no-tablespaces $owners "$@"
}
"""

_SET_ASIDE = r"""
  ask -v name="$name" <<< "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = :'name'" > /dev/null
  ask -v name="$name" <<< "SELECT format('ALTER DATABASE %I RENAME TO %I', datname,
    left(datname, 46) || '_before_recovery') FROM pg_database WHERE datname = :'name' \gexec"
"""

_EVERY = r"""
ask <<< 'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate' |
while IFS= read -r name; do
  PREFIXpg_dump -Fc -Z0 -d "dbname='$name'" < /dev/null | zstd -3 -T0 > NAME."$name".pgdump.zst
done
"""


def capture_commands(server: Server, name: str, *, globals_too: bool, every: bool) -> list[str]:
    """Dumps as a person would make them; no fingerprint."""
    lines, prefix = variables(server), _prefix(server)
    nothing = " < /dev/null" if server.exec else ""
    if globals_too:
        file = quote(f"{name}.globals.sql")
        lines.append(f"{prefix}pg_dumpall --globals-only{nothing} > {file}")
    if every:
        return [*lines, *_filled(_ASK + _EVERY, PREFIX=prefix, NAME=quote(name))]
    database = f" -d {quote(_conninfo(server.dbname))}" if server.dbname else ""
    file = quote(f"{name}.pgdump.zst")
    return [*lines, f"{prefix}pg_dump -Fc -Z0{database}{nothing} | zstd -3 -T0 > {file}"]


def restore_commands(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Decode: each database to `<part>.pgdump` or a folder, roles to `globals.sql`."""
    lines = [f"mkdir -p -- {quote(folder)}"]
    for one in stored:
        path = f"{folder}/{one.part or 'database'}"
        if one.form == "tar":
            lines.append(f"mkdir -p -- {quote(path)}")
            lines.append(f"{decode(one)} | tar -x -f - -C {quote(path)}")
        else:
            lines.append(f"{decode(one)} > {quote(f'{path}.{one.form}')}")
    return lines


def load_commands(folder: str) -> list[str]:
    """Load what `restore_commands` made into the server that the `PG*` variables name.

    Missing roles are made first. A database must not be there yet, or be empty.
    """
    return _load(folder, "")


def place_commands(server: Server, folder: str) -> list[str]:
    """The same for the server of the spec, where `<name>_before_recovery` keeps what is there."""
    return [*variables(server), *_load(folder, _prefix(server), aside=True)]


def variables(server: Server) -> list[str]:
    """Tell the client programs which server it is; a password comes from the person."""
    lines = []
    if isinstance(server.url, Secret):
        told = "PGHOST, PGPORT, PGUSER, PGPASSWORD"
        lines.append(f"# {told}: as in the URL in {server.url.reference}")
    elif server.url is not None:
        lines.append("# PGHOST, PGPORT, PGUSER: as in the URL of the spec")
    known = server.fields.items()
    lines += [f"export {VARIABLES[key]}={quote(value)}" for key, value in known if key in VARIABLES]
    if server.bin and not server.exec:
        folder = server.folder / Path(server.bin).expanduser()
        lines.append(f'export PATH={quote(str(folder))}:"$PATH"')
    if server.password is not None:
        where = "PGPASSWORD" if server.exec else "PGPASSWORD or ~/.pgpass"
        lines.append(f"# {where}: the password in {server.password.reference}")
    return [*lines, *_behind(server)] if server.exec else lines


def _behind(server: Server) -> list[str]:
    """A shell function that starts a program behind the prefix command, where that is meant to run,
    with the variables of here: none of them gets there by itself. A password is no argument.
    """
    names = {VARIABLES[name] for name in server.fields if name in VARIABLES} | {"PGOPTIONS"}
    if server.url is not None:
        names |= {"PGHOST", "PGPORT", "PGUSER"}
    words = " ".join(f'${{{name}+{name}="${name}"}}' for name in sorted(names))
    lines = ["behind() (", f"  cd {quote(str(server.folder))}", f'  set -- env {words} "$@"']
    if server.bin:
        path = f'PATH={quote(server.bin)}:"$PATH" && export PATH && exec "$@"'
        lines.append(f'  set -- sh -c {quote(path)} sh "$@"')
    secret = server.password is not None or isinstance(server.url, Secret)
    if secret:
        lines.append(f'  set -- sh -c {quote(FROM_STDIN)} sh "$@"')
    if through_ssh(server):
        lines.append('  set -- "${@@Q}"')
    first = "{ printf '%s\\n' \"${PGPASSWORD-}\"; cat || true; } | " if secret else ""
    return [*lines, f'  {first}{shlex.join(server.exec)} "$@"', ")"]


def _load(folder: str, prefix: str, *, aside: bool = False) -> list[str]:
    return _filled(
        _ASK + _ROLES + (_STREAMS if prefix else _FILES) + _DATABASES,
        PREFIX=prefix,
        FOLDER=quote(folder),
        ASIDE=_SET_ASIDE if aside else "",
        WITH_LIST=quote(WITH_LIST),
    )


def _filled(template: str, **values: str) -> list[str]:
    """Lines of a template; what is filled in is quoted already, or is a command of ours."""
    pattern = re.compile("|".join(values))
    text = pattern.sub(lambda found: values[found[0]], template)
    return [line for line in text.splitlines() if line.strip()]


def _prefix(server: Server) -> str:
    return "behind " if server.exec else ""


def _conninfo(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
