"""What a database holds beside the objects that it made itself: rights on those of the system and
of extensions, what extensions keep, and what no dump holds.
"""

from __future__ import annotations

from pathlib import Path

from tests.postgres_server import Database
from tests.source.postgres_restored import captured, opened, place_at, proven

# Each gives a role something that pg_dump writes down, though no object of the database's own is
# the role's or lets it in.
RIGHTS = (
    ('GRANT EXECUTE ON FUNCTION pg_read_file(text) TO "{0}"',),
    ("CREATE EXTENSION hstore", 'GRANT EXECUTE ON FUNCTION akeys(hstore) TO "{0}"'),
    (
        "CREATE EXTENSION postgres_fdw",
        'GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO "{0}"',
    ),
    ("SELECT lo_from_bytea(7, 'x')", 'ALTER LARGE OBJECT 7 OWNER TO "{0}"'),
    (
        "CREATE CONVERSION odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
        'ALTER CONVERSION odd OWNER TO "{0}"',
    ),
)


def test_roles_that_own_nothing_of_the_database_s_own_come_along(
    database: Database, tmp_path: Path
) -> None:
    for statements in RIGHTS:
        role = database.role()
        database.execute(*(one.format(role) for one in statements))
    source = opened(database, tmp_path)
    place = place_at(tmp_path, source.scratch_destination(tmp_path / "scratch"))
    try:
        proven(source, captured(source, tmp_path), place)
    finally:
        source.discard(place)
