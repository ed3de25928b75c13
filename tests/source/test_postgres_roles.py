"""What of a globals' dump may run, and how a dump's list of contents is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.source.postgres_roles import names_in, statements
from runner.source.postgres_session import identifier, literal
from runner.source.postgres_toc import of_tables, parse

GLOBALS = r"""
\restrict 5gT
SET default_transaction_read_only = off;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE ROLE "the ""app""; -- no";
ALTER ROLE "the ""app""; -- no" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c';
CREATE ROLE plain;
COMMENT ON ROLE plain IS E'it''s \' ; \\ a comment';
GRANT plain TO "the ""app""; -- no" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;
CREATE TABLESPACE fast OWNER plain LOCATION '/srv/fast';
GRANT CREATE ON TABLESPACE fast TO plain;
GRANT SET ON PARAMETER work_mem TO plain;
DROP ROLE plain;
ALTER SYSTEM SET archive_command = 'rm -rf /';
\! touch pwned
\unrestrict 5gT
"""


def test_only_what_makes_and_describes_roles_runs() -> None:
    found = list(statements(GLOBALS))
    assert [one.text.split()[0] for one in found] == [
        *("CREATE", "ALTER", "CREATE", "COMMENT", "GRANT", "CREATE", "GRANT", "GRANT")
    ]
    assert names_in(GLOBALS) == {'the "app"; -- no', "plain"}
    assert not any(word in one.text for one in found for word in ("DROP", "SYSTEM", "\\!"))


def test_a_membership_is_granted_by_whoever_restores() -> None:
    (grant,) = (one for one in statements(GLOBALS) if one.text.startswith("GRANT plain TO"))
    assert grant.concerns == ("plain", 'the "app"; -- no')
    assert "GRANTED BY" not in grant.text


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_and_any_text_stays_one_statement(text: str) -> None:
    dump = (
        f"CREATE ROLE {identifier(text)};\n"
        f"COMMENT ON ROLE {identifier(text)} IS {literal(text)};\nCREATE ROLE after;\n"
    )
    made, comment, after = statements(dump)
    assert (made.creates, comment.concerns, after.creates) == (text, (text,), "after")


LIST = """
; Archive created at 2026-11-21 11:43:00 UTC
10; 0 0 ENCODING - ENCODING \n7; 2615 16423 SCHEMA - My Shop postgres
3; 3079 16386 EXTENSION - pgcrypto \n4; 2615 2200 SCHEMA - public postgres
217; 1259 1 TABLE My Shop the table postgres
;	depends on: 7
218; 1259 2 TABLE My Shop the table too postgres
;	depends on: 7
216; 1259 3 SEQUENCE My Shop the table_id_seq postgres
;	depends on: 217 7
221; 1259 4 VIEW public v postgres
;	depends on: 217
317; 0 1 TABLE DATA My Shop the table postgres
;	depends on: 217
318; 0 2 TABLE DATA My Shop the table too postgres
;	depends on: 218
432; 0 0 SEQUENCE SET My Shop the table_id_seq postgres
;	depends on: 216
259; 2606 5 CONSTRAINT My Shop the table the table_pkey postgres
;	depends on: 217
266; 2606 6 FK CONSTRAINT My Shop the table to_the_other postgres
;	depends on: 217 259 218
267; 2606 7 FK CONSTRAINT My Shop the table to_itself postgres
;	depends on: 217 259 217
"""


def test_a_table_comes_with_what_it_needs_and_nothing_else() -> None:
    tables = [("My Shop", "the table"), ("My Shop", "the table too")]
    lines = of_tables(parse(LIST), tables[:1], tables)
    numbers = [int(line.partition(";")[0]) for line in lines]
    assert numbers == [10, 7, 217, 216, 317, 432, 259, 267]
    both = of_tables(parse(LIST), tables, tables)
    assert {int(line.partition(";")[0]) for line in both} >= {218, 318, 266}
