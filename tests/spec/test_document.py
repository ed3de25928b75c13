"""YAML with positions: what is read, what is refused, and that it is quick to refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.document import MOST_VALUES, Plain, read

BOMB = "a0: &a0 [1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


def refusal(folder: Path, content: bytes) -> SpecError:
    file = folder / "backup.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read(file)
    return caught.value


def reading(folder: Path, text: str) -> dict[str, object]:
    file = folder / "backup.yaml"
    file.write_text(text)
    value, _, _ = read(file)
    assert isinstance(value, dict)
    return value


def test_words_that_other_readers_change_stay_as_written(tmp_path: Path) -> None:
    text = "a: no\nb: 22:30\nc: 010\nd: 2026-11-20\ne: 1_000\nf: 0x1F\ng: 1.10\n"
    assert reading(tmp_path, text) == {
        "a": "no",
        "b": "22:30",
        "c": "010",
        "d": "2026-11-20",
        "e": "1_000",
        "f": "0x1F",
        "g": "1.10",
    }


def test_quotes_are_remembered(tmp_path: Path) -> None:
    value = reading(tmp_path, 'plain: 5\nquoted: "5"\nnothing: ~\nempty:\nblock: |\n  5\n')
    assert isinstance(value["plain"], Plain)
    assert not isinstance(value["quoted"], Plain)
    assert not isinstance(value["block"], Plain)
    assert value["nothing"] is None is value["empty"]


def test_each_key_and_value_has_its_position(tmp_path: Path) -> None:
    file = tmp_path / "backup.yaml"
    file.write_text("policies:\n  nightly:\n    sources: [db, config]\n")
    _, marks, _ = read(file)
    second = marks.problem(("policies", "nightly", "sources", 1), "…")
    assert (second.line, second.column, second.path) == (3, 19, "policies.nightly.sources[1]")
    key = marks.problem(("policies", "nightly", "sources"), "…", key=True)
    assert (key.line, key.column) == (3, 5)
    lacking = marks.problem(("policies", "nightly", "keep"), "…")
    assert (lacking.line, lacking.column) == (2, 3)


def test_merge_keys_give_what_is_not_written(tmp_path: Path) -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\n"
    assert reading(tmp_path, text)["z"] == {"a": "0", "b": "2", "c": "4"}


def test_a_duplicate_key_is_refused_with_both_lines(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"a: 1\nb:\n  c: 1\n  c: 2\n")
    assert (error.line, error.column) == (4, 3)
    assert "line 3" in error.message


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", 1, "empty"),
        (b"# only a comment\n", 1, "empty"),
        (b"a: 1\nb: \0\n", 2, "U+0000"),
        (b'a: "\\0"\n', 1, "no program can take"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a:\n\tb: 1\n", 2, "indent with spaces"),
        (b'a: 1\nb: "open\n', 2, "not YAML"),
        (
            b"a: {b: data/${NAME}.db}\n",
            1,
            'quote text that has a brace, a bracket or a comma: "${NAME}"',
        ),
        (b"a: *nobody\n", 1, "undefined alias"),
        (b"a: 1\n---\nb: 2\n", 2, "single document"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "tag"),
        (b"a: !secret x\n", 1, "tag"),
        (b"? [a]\n: b\n", 1, "key must be plain"),
        (b"a: {<<: 5}\n", 1, "merges a map"),
        (b"a: &a [*a]\n", 1, "nested deeper"),
        (b"a: &a {<<: *a}\n", 1, "nested deeper"),
        (b"[" * 500_000, 1, "nested deeper"),
        (b"- " * 500_000, 1, "nested deeper"),
        (b"\n".join(b" " * n + b"a:" for n in range(900)), 41, "nested deeper"),
        (b"a: 1\n" + b"# " + b"x" * 10_000_000, 1, "larger than 1 MiB"),
        (BOMB.encode(), 1, f"more than {MOST_VALUES}"),
        (MERGE_BOMB.encode(), 1, f"more than {MOST_VALUES}"),
        (b"".join(b"k%d: 1\n" % n for n in range(25_000)), MOST_VALUES, "more than"),
    ],
    ids=lambda value: None if isinstance(value, int | str) else value[:12].decode("latin-1"),
)
def test_what_cannot_be_read_is_one_clear_error(
    tmp_path: Path, content: bytes, line: int, said: str
) -> None:
    error = refusal(tmp_path, content)
    assert said in error.message
    assert error.line == line
    assert len(error.problems) == 1


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "backup.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read(file)[0] == {"a": "1", "b": "2"}


def test_what_is_no_readable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(SpecError, match=r"no such file.*holdfast init"):
        read(tmp_path / "nowhere.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read(tmp_path / ("x" * 300))
