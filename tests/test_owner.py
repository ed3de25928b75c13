"""An owner is one process of all that ever ran: its id alone proves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.owner import Owner, alive, lock, this_process

TELL = "import json; from runner.owner import this_process as p; print(json.dumps(p().to_json()))"


def test_this_process_lives_and_can_be_written_down() -> None:
    owner = this_process()
    assert owner.pid == os.getpid()
    assert alive(owner)
    assert Owner.from_json(json.loads(json.dumps(owner.to_json()))) == owner
    assert str(owner.pid) in owner.describe()
    assert owner.host in owner.describe()


def test_an_ended_process_is_dead_even_while_nobody_has_waited_for_it() -> None:
    lines = f"{TELL}; import sys; sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        owner = Owner.from_json(json.loads(process.stdout.readline()))
        assert alive(owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(owner), "a zombie does nothing any more"
    assert not alive(owner)


def test_the_same_id_of_another_process_or_boot_is_another_owner() -> None:
    owner = this_process()
    assert not alive(replace(owner, started=owner.started + 1))
    assert not alive(replace(owner, boot="00000000-0000-0000-0000-000000000000"))


def test_a_process_on_another_host_cannot_be_seen_and_counts_as_alive() -> None:
    assert alive(replace(this_process(), host="elsewhere", pid=2**30))


def test_a_process_with_a_strange_name_is_found() -> None:
    lines = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0)\n"
        "import json; from runner.owner import this_process, alive\n"
        "print(alive(this_process()))"
    )
    assert subprocess.check_output([sys.executable, "-c", lines], text=True) == "True\n"


@given(
    st.none()
    | st.integers()
    | st.lists(st.integers(), max_size=2)
    | st.fixed_dictionaries(
        {"pid": st.none() | st.just("1"), "started": st.integers()},
        optional={"boot": st.just("b"), "host": st.just("h")},
    )
)
def test_whatever_is_no_note_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="owner"):
        Owner.from_json(document)


def test_a_lock_is_waited_for_and_no_longer_than_said(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as theirs, path.open() as ours:
        fcntl.flock(theirs, fcntl.LOCK_SH)
        assert lock(ours.fileno(), shared=True, wait=0)
        assert not lock(ours.fileno(), wait=0.1)
        soon = threading.Timer(0.2, theirs.close)
        soon.start()
        assert lock(ours.fileno(), wait=60)
        soon.join()
