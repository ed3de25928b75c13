"""References to variables, and env files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.expand import BadReference, expand, read_env_file

HOST = {"HOST": "db", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${HOST}", "db"),
        ("a${HOST}b${HOST}", "adbbdb"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NONE:-}", ""),
        ("${NONE:-a b:c}", "a b:c"),
        ("$$HOST costs 5$", "$HOST costs 5$"),
        ("$${HOST}", "${HOST}"),
    ],
)
def test_references_take_their_values(text: str, expanded: str) -> None:
    assert expand(text, HOST) == (expanded, ())


def test_what_is_not_set_stays_and_is_named_once() -> None:
    assert expand("${A}/${B}/${A}", HOST) == ("${A}/${B}/${A}", ("A", "B"))


@pytest.mark.parametrize("text", ["$HOME", "${HOST", "${1}", "${A:?no}", "${A:-${B}}", "${}"])
def test_a_dollar_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadReference, match=r"\$\$"):
        expand(text, HOST)


@given(st.text())
def test_doubled_dollars_come_back_as_they_were(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}) == (text, ())


@given(st.dictionaries(st.sampled_from(["A", "B"]), st.text(), min_size=2))
def test_a_value_is_not_expanded_again(values: dict[str, str]) -> None:
    assert expand("${A}${B}", values) == (values["A"] + values["B"], ())


def test_an_env_file_is_read_as_shells_and_compose_write_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# the bot\n\nTOKEN=abc # not part of it\nexport NAME = quay\nEMPTY=\nHASH=a#b\n"
        "SINGLE='a $b \\n' # comment\n"
        'DOUBLE="two\\nlines \\"quoted\\""\nURL=postgres://h/d?a=b\n'
    )
    values, problems = read_env_file(file)
    assert problems == []
    assert values == {
        "TOKEN": "abc",
        "NAME": "quay",
        "EMPTY": "",
        "HASH": "a#b",
        "SINGLE": "a $b \\n",
        "DOUBLE": 'two\nlines "quoted"',
        "URL": "postgres://h/d?a=b",
    }


def test_a_quoted_value_goes_over_lines_as_in_compose(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    key = "-----BEGIN KEY-----  \n  ab # c=d\n\n-----END KEY-----\n"
    file.write_bytes(f'A=1\nKEY="{key}" # ours\nexport LITERAL=\'x\n\\n"y\'\nB=2\n'.encode())
    values, problems = read_env_file(file)
    assert problems == []
    assert values == {"A": "1", "KEY": key, "LITERAL": 'x\n\\n"y', "B": "2"}


def test_a_missing_env_file_has_no_values(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / ".env") == ({}, [])


def test_a_bad_line_is_told_with_its_number_and_not_its_content(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nhunter2 is not a line\nB='open\n")
    values, problems = read_env_file(file)
    assert values == {"A": "1"}
    assert [one.line for one in problems] == [2, 3]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"A=\0", b"A=" + b"x" * 2_000_000])
def test_what_is_no_env_file_is_one_problem(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / ".env"
    file.write_bytes(data)
    values, problems = read_env_file(file)
    assert (values, len(problems)) == ({}, 1)


def test_a_folder_is_no_env_file(tmp_path: Path) -> None:
    assert "Is a directory" in read_env_file(tmp_path)[1][0].message
