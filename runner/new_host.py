"""A drill as on a machine that has nothing but one target, its credentials and the identity.

The spec comes out of the snapshot. Neither an env file nor a secret's file of this host is read for
it; what is set in the environment of the command counts as given by the person.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from runner.errors import PersonNeeded
from runner.execute.session import Session
from runner.plan.model import Plan, Step
from runner.prove.scratch import scratch_folder
from runner.prove.stored import look as look_at
from runner.prove.stored import require_whole
from runner.secret import Secret
from runner.spec.foreign import asked_of_programs, lacking
from runner.spec.load import load_spec
from runner.spec.model import Spec, TargetSpec
from runner.store.catalog import Snapshot
from runner.store.documents import SPEC_COPY, read_document

STEP = "new-host"


def on_new_host(session: Session, snapshot: Snapshot, target: str) -> Session:
    """A session by the spec that a snapshot carries, with that target alone.

    Raises PersonNeeded where the identity is missing or nobody vouches for the spec, and
    StepFailed where the snapshot is damaged or carries none.
    """
    spec, origin = session.spec, session.spec.target(target)
    folder = look_at(session.targets[target], spec.project, spec.profile, snapshot.id)
    signers = session.aside("drill").signers()
    require_whole(folder, signers)
    identities = _identities(session, encrypted=folder.manifest.encrypted)
    text = read_document(session.targets[target], folder.manifest, SPEC_COPY, identities)
    if signers is None and text != spec.text:
        raise PersonNeeded(
            f"The spec in {snapshot.id} is not the one here, and nobody known signed it: its "
            "commands are not run.",
            remedy="`backup` first, which stores this spec; or declare `signing`.",
        )

    def reload(restored: Mapping[str, str]) -> Spec:
        return _loaded(text, spec, origin, {**restored, **os.environ})

    brought = _loaded(text, spec, origin, os.environ)
    call = replace(session.call, origin=origin)
    return Session(call, brought, session.facts, remembers=False, reload=reload)


def equipped(plan: Plan, spec: Spec) -> Plan:
    """The plan, which first judges what a new machine would lack."""
    step = Step(
        id=STEP,
        action="host.equip",
        title="See what a new host would lack",
        params={"lacks": lacking(spec, there=lambda _file: False), "asks": asked_of_programs(spec)},
        phase="provision",
        reason="nothing of the lost host is used: the spec is the one in the snapshot",
    )
    return replace(plan, steps=(step, *plan.steps))


def _identities(session: Session, *, encrypted: bool) -> list[str]:
    if not encrypted:
        return []
    if session.call.identity is None:
        raise PersonNeeded(
            "What is declared as the identity is lost with the host.",
            remedy="Give --identity FILE: the one from the safe.",
        )
    return [Secret(f"file:{session.call.identity}").reveal()]


def _loaded(text: bytes, here: Spec, origin: TargetSpec, environment: Mapping[str, str]) -> Spec:
    """The spec as it is in a folder of its own, where nothing of this host lies."""
    with scratch_folder(here.state / "scratch", "spec") as folder:
        file = folder / here.file.name
        file.write_bytes(text)
        spec = load_spec(
            file, here.profile, environment=environment, unset="keep", cached=False, env_files=False
        )
    return replace(spec, state=here.state, targets={origin.name: origin})
