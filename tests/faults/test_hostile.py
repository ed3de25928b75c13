"""Hostile names, specs, ids and repositories: nothing of theirs ever runs, nothing escapes."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.bad_day import ONE_TARGET, Steady, snapshots
from tests.faults.conftest import Fresh
from tests.service import Service
from tests.source.test_git_hostile import make_hostile
from tests.tools import clean_environment, run

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PWN = "$(touch pwned)"
NAMES = [
    b"new\nline",
    b"-rf",
    b"--checkpoint-action=exec=touch pwned",
    b"\xff\xfe bytes",
    b'it\'s "quoted"',
    b"$(touch pwned)",
    b"`touch pwned`",
    b"; touch pwned #",
    b"a & touch pwned &",
    b" space ",
    b"star*?[x]",
    b"back\\slash",
    b"```\ntouch pwned\n```",
    b"EOF\ntouch pwned",
    b"~root",
    "ünï\u202ecode".encode(),
]


def unharmed(folder: Path) -> None:
    """Nobody ran what stands in a name or a value."""
    found = [path for path in folder.rglob("*") if path.name == "pwned"]
    assert found == []


def run_blocks(text: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a document's `sh` blocks as a person would, by `bash -e`."""
    blocks = BLOCK.findall(text.decode("utf-8", "surrogateescape"))
    assert blocks
    return subprocess.run(
        ["bash", "-e"],
        input="\n".join(blocks).encode("utf-8", "surrogateescape"),
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        check=False,
    )


def tree(folder: Path) -> dict[bytes, bytes]:
    """The files below a folder by their raw names."""
    found = {}
    for place, _, files in os.walk(os.fsencode(folder)):
        for name in files:
            path = place + b"/" + name
            found[os.path.relpath(path, os.fsencode(folder))] = Path(os.fsdecode(path)).read_bytes()
    return found


@pytest.fixture
def odd(tmp_path: Path) -> tuple[Service, Steady]:
    """A service whose every source has hostile names in it, and hostile paths."""
    place = f"it's {PWN}; touch pwned"
    spec = ONE_TARGET
    for old, new in {
        "data/quaybot.db": f"{place}/q {PWN}.db",
        "[config, .env]": f'["{place}/config", .env]',
        "path: code": f'path: "{place}/code"',
        "path: backups": f'path: "backups {PWN}"',
    }.items():
        assert old in spec
        spec = spec.replace(old, f'"{new}"' if "[" not in new and '"' not in new else new)
    service = Service(tmp_path / "service", spec).build()
    folder = service.folder
    (folder / place).mkdir()
    for raw in NAMES:
        for where in ("config", "code"):
            (folder / where / os.fsdecode(raw)).write_bytes(raw)
    with sqlite3.connect(folder / "data" / "quaybot.db") as database:
        for name in (PWN, "it's", 'a "quoted" one', "x; drop table players", "new\nline"):
            quoted = '"' + name.replace('"', '""') + '"'
            database.execute(f"create table {quoted}({quoted} text)")
            database.execute(f"insert into {quoted} values(?)", (PWN,))
    database.close()
    run("git", "add", "--all", folder=folder / "code")
    run("git", "commit", "-q", "-m", PWN, folder=folder / "code")
    run("git", "branch", "b$(touch${IFS}pwned)", folder=folder / "code")
    (folder / "data" / "quaybot.db").rename(folder / place / f"q {PWN}.db")
    shutil.rmtree(folder / "data")
    for name in ("config", "code"):
        (folder / name).rename(folder / place / name)
    return service, Steady(folder)


def test_odd_names_come_back_and_run_nowhere(odd: tuple[Service, Steady], tmp_path: Path) -> None:
    service, holdfast = odd
    place = next(path for path in service.folder.iterdir() if path.name.startswith("it's"))
    # SQLite's own files come and go; and git's index holds times of files.
    holdfast("backup", status=0)
    before = {name: data for name, data in tree(place).items() if b".git/" not in name}
    for command in ("list", "status", "history", "doctor", "verify", "drill"):
        holdfast(command)
    for source in ("db", "config", "code"):
        holdfast("ls", "--source", source, status=0)
    holdfast("verify", "--level", "restored", status=0)
    for name in ("restore", "dr-restore"):
        shutil.rmtree(place)
        if name == "restore":
            place.mkdir()
            for source in ("code", "config", "db"):
                holdfast("restore", "--source", source, "--confirm", source, status=0)
        else:
            holdfast("dr-restore", "--confirm", "quaybot", status=0)
        after = {key: data for key, data in tree(place).items() if b".git/" not in key}
        rows = [key for key in before if key.endswith(b".db")]
        assert after.keys() >= before.keys()
        assert {key for key in before if key not in rows and after[key] != before[key]} == set()
    assert "touch${IFS}pwned" in run("git", "branch", folder=place / "code").stdout
    unharmed(tmp_path)


def test_odd_names_come_back_by_hand_and_run_nowhere(
    odd: tuple[Service, Steady], tmp_path: Path
) -> None:
    service, holdfast = odd
    holdfast("backup", status=0)
    (stored,) = service.folder.glob("backups*/quaybot/default/2*")
    folder = tmp_path / "by hand"
    shutil.copytree(stored, folder)
    done = run_blocks((folder / "RESTORE.md").read_bytes(), folder)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    names = {Path(os.fsdecode(name)).name for name in tree(folder / "restored")}
    assert {os.fsdecode(name) for name in NAMES} <= names
    runbook = holdfast.json("runbook")["document"]
    place = next(path for path in service.folder.iterdir() if path.name.startswith("it's"))
    before = tree(place / "config")
    shutil.rmtree(place)
    workshop = tmp_path / "workshop"
    workshop.mkdir()
    done = run_blocks(runbook.encode("utf-8", "surrogateescape"), workshop)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert tree(place / "config") == before
    unharmed(tmp_path)


FIELDS = {
    "project": "project: quaybot",
    "name of a source": "  config: {type: files",
    "type": "type: sqlite",
    "env_file": "env_file: [.env]",
    "path of a file": "path: data/quaybot.db",
    "paths": "paths: [config, .env]",
    "target": "path: backups",
    "policy": "  nightly: {keep",
    "keep": "keep: {last: 3}",
    "verify": "verify: stored",
    "objective": "rto: 10m",
    "recovery": "restore: code",
    "probe's source": "source: db}, drill",
    "check's file": "file: .env",
}


@pytest.mark.parametrize(
    "hostile", [f"x{PWN}", "x`touch pwned`", "x; touch pwned #", "x\\n-rf | touch pwned"]
)
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_a_spec_reaches_a_shell(fresh: Fresh, field: str, hostile: str) -> None:
    service, holdfast = fresh()
    old = FIELDS[field]
    head, separator, value = old.rpartition(": ")
    opened = "[" if value.startswith("[") else ""
    written = f'"{hostile}"'
    new = (
        f"{head}{separator}{opened}{written}{']' if opened else ''}"
        if separator and not old.startswith("  ")
        else old.replace(old.strip().partition(":")[0], written)
    )
    spec = (service.folder / "backup.yaml").read_text()
    assert old in spec
    (service.folder / "backup.yaml").write_text(spec.replace(old, new, 1))
    for command in (
        ("validate",),
        ("backup",),
        ("status",),
        ("runbook",),
        ("dr-restore", "--confirm", "quaybot", "--dry-run"),
        ("drill",),
    ):
        holdfast(*command)
    unharmed(service.folder)


def test_values_for_commands_stay_values(fresh: Fresh) -> None:
    service, holdfast = fresh()
    spec = (service.folder / "backup.yaml").read_text()
    deploy = '{name: deploy, run: "test -s .env && echo deployed >> service.log", drill: same}'
    assert deploy in spec
    odd = service.folder / PWN
    odd.mkdir()
    new = (
        '{name: "deploy", run: "printf %s \\"$VALUE\\" > value", drill: same, '
        f'working_dir: "{PWN}", env: {{VALUE: "{PWN}"}}}}'
    )
    exclude = f'type: files, exclude: ["{PWN}", "*.log;touch pwned", "--files-from=x"], '
    spec = spec.replace(deploy, new).replace("type: files, ", exclude)
    (service.folder / "backup.yaml").write_text(spec)
    holdfast("backup", status=0)
    holdfast("dr-restore", "--confirm", "quaybot", status=0)
    assert (odd / "value").read_text() == PWN
    holdfast("drill")
    runbook = holdfast.json("runbook")["document"]
    (odd / "value").unlink()
    workshop = service.folder.parent / "workshop"
    workshop.mkdir()
    assert run_blocks(runbook.encode(), workshop).returncode == 0
    assert (odd / "value").read_text() == PWN
    unharmed(service.folder.parent)


@pytest.mark.parametrize("profile", ["../../etc", PWN, "/etc", "a\nb", "..", "-x"])
def test_a_profile_is_a_name(fresh: Fresh, profile: str) -> None:
    service, holdfast = fresh()
    for command in ("validate", "list", "backup", "status"):
        assert holdfast(command, "--profile", profile).status in (1, 3)
    # No target reads a folder of such a name: whether there is a snapshot cannot be told.
    answer = holdfast("dr-restore", "--from-profile", profile, "--confirm", "quaybot")
    assert answer.status in (1, 4, 7)
    unharmed(service.folder)


IDS = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "20261120T021500Z-nightly-7f3a9c/../../x",
    "20261120T021500Z-../../x-7f3a9c",
    quote("../../etc/passwd", safe=""),
    "%00",
    PWN,
    "x" * 100_000,
    "ünï",
    "\udcff",
]
COMMANDS = [
    ("show",),
    ("ls", "--source", "db"),
    ("fetch", "--to", "out"),
    ("restore", "--source", "db", "--confirm", "db"),
    ("verify",),
    ("pin",),
    ("unpin",),
    ("delete", "--confirm", "x"),
    ("dr-restore", "--confirm", "quaybot"),
    ("drill",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_id_is_never_a_path(fresh: Fresh, command: tuple[str, ...]) -> None:
    service, holdfast = fresh()
    before = service.observe()
    stored = tree(service.folder / "backups")
    for snapshot in IDS:
        for more in ((), ("--json",)):
            answer = holdfast(*command, "--snapshot", snapshot, *more)
            assert answer.status in (1, 7), f"{answer}"[:2000]
            assert "root:" not in answer.stdout
    assert service.observe() == before
    assert tree(service.folder / "backups") == stored
    assert not (service.folder / "out").exists()
    unharmed(service.folder)


@pytest.mark.parametrize("run_id", IDS[:-4])
def test_a_run_s_id_is_never_a_path(fresh: Fresh, run_id: str) -> None:
    _, holdfast = fresh()
    for command in (
        ("show", "--run", run_id),
        ("backup", "--resume", run_id),
        ("dr-restore", "--resume", run_id, "--confirm", "quaybot"),
    ):
        assert holdfast(*command).status == 1


def bomb() -> bytes:
    lines = ['a: &a ["x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines).encode()


SPECS = {
    "a bomb": bomb(),
    "ten megabytes": b"# " + b"x" * 10_000_000,
    "ten megabytes of keys": b"".join(b"k%d: v\n" % number for number in range(900_000)),
    "bytes": bytes(range(256)) * 100,
    "deep": b"[" * 100_000,
    "deep maps": b"{a: " * 5_000,
    "an object": b"!!python/object/apply:os.system ['touch pwned']\n",
    "nothing": b"",
    "a list": b"- 1\n",
    "a number": b"7\n",
    "an alias of itself": b"a: &a [*a]\n",
    "utf-16": "version: 1".encode("utf-16"),
}


@pytest.mark.parametrize("name", SPECS)
def test_no_file_is_too_odd_for_a_spec(tmp_path: Path, name: str) -> None:
    (tmp_path / "backup.yaml").write_bytes(SPECS[name])
    holdfast = Steady(tmp_path)
    for command in ("validate", "backup", "status"):
        assert holdfast(command, status=3).stdout.count("\n") < 50
    unharmed(tmp_path)


def test_a_spec_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "backup.yaml").mkdir()
    assert Steady(tmp_path)("validate").status == 3
    assert Steady(tmp_path)("validate", "--file", "/dev/null").status == 3


def test_a_hostile_repository_is_captured_drilled_and_recovered_dead(tmp_path: Path) -> None:
    service = Service(tmp_path / "service", ONE_TARGET).build()
    trap = tmp_path / "trap"
    trap.mkdir()
    marker = make_hostile(service.folder / "code", trap)
    spec = (service.folder / "backup.yaml").read_text()
    uncommitted = spec.replace("path: code}", "path: code, uncommitted: true}")
    (service.folder / "backup.yaml").write_text(uncommitted)
    (service.folder / "code" / "new.py").write_text("print('new')\n")
    for command in (
        ("backup",),
        ("verify", "--level", "restored"),
        ("drill",),
        ("restore", "--source", "code", "--to", "copy"),
        ("restore", "--source", "code", "--confirm", "code"),
        ("dr-restore", "--confirm", "quaybot"),
    ):
        answer = service.program(*command, status=0)
        assert "Traceback" not in answer.stderr
        assert not marker.exists(), str(answer)
    assert len(snapshots(service)) == 1
    folder = tmp_path / "by hand"
    shutil.copytree(snapshots(service)[0], folder)
    done = run_blocks((folder / "RESTORE.md").read_bytes(), folder)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert not marker.exists()
    unharmed(tmp_path)
