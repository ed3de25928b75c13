"""One Invoke task for each thing a user does: read flags, call a journey, choose the exit code."""

from __future__ import annotations

from typing import Any

from runner import lazily  # noqa: F401  (it comes before all that it postpones)
from runner.commands.beginning import init, keygen
from runner.commands.keeping import backup, delete, pin, prune, rekey, unpin, verify
from runner.commands.looking import doctor, history, list_snapshots, ls, show, status, validate
from runner.commands.recovering import (
    apply,
    dr_restore,
    drill,
    fetch,
    open_snapshot,
    restore,
    runbook,
)
from runner.light import Collection

TASKS: tuple[Any, ...] = (
    validate,
    backup,
    show,
    ls,
    verify,
    restore,
    fetch,
    dr_restore,
    drill,
    prune,
    pin,
    unpin,
    delete,
    rekey,
    status,
    history,
    runbook,
    apply,
    init,
    keygen,
    doctor,
)

namespace = Collection(*TASKS)
namespace.add_task(list_snapshots, name="list")
namespace.add_task(open_snapshot, name="open")
