"""From `backup.yaml` to a Spec: read, merge the profile, expand, check, fill in, convert."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from runner import __version__
from runner.errors import SpecError, UsageError
from runner.spec import convert, document
from runner.spec.expand import read_env_file
from runner.spec.marks import Marks, Place, Problem, nearest
from runner.spec.model import DEFAULT_PROFILE, Spec
from runner.spec.profile import FIXED, merge
from runner.spec.references import (
    check_passwords,
    check_questions,
    check_recipients,
    check_references,
    check_schedules,
)
from runner.spec.schema import Schemas, load_schemas
from runner.spec.validate import Complaint, Validation, remember, remembered
from runner.spec.values import Completion, Expansion

SPEC_NAME = "backup.yaml"
VALID_CACHE = "valid-specs.json"

# Where a value may wait for its variable until a command needs it.
_MAY_WAIT = ("sources", "targets", "services", "recovery", "checks", "notify", "encryption")


def find_spec(start: Path) -> Path:
    """The nearest backup.yaml, in `start` or above it. Raises SpecError with the remedy."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / SPEC_NAME).is_file():
            return folder / SPEC_NAME
    raise SpecError(
        f"There is no {SPEC_NAME} in {start} or above it.",
        remedy="`holdfast init` writes one; --file names another; on a machine that lost it, "
        "`holdfast dr-restore --from ADDRESS` takes it out of the newest snapshot.",
    )


def load_spec(
    file: Path,
    profile: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    unset: Literal["error", "keep"] = "error",
    cached: bool = True,
    env_files: bool = True,
    lost: Mapping[str, str] | None = None,
) -> Spec:
    """The spec in `file` with a profile applied.

    `environment` stands for the process's; unless `env_files`, no file is read for more. `lost` is
    what env files said that are lost. With `unset="keep"` a `${NAME}` without a value is an error
    only of what needs it: reading such an option of a source or target, or the recipients, raises
    SpecError, and in services, recovery and checks the text stays as written until `Spec.require`
    asks. Unless `cached`, nothing is remembered in the state folder, which a foreign spec may have
    put anywhere.

    Raises SpecError, whose `problems` are all that were found, and UsageError for an unknown
    profile.
    """
    file = Path(os.path.abspath(file))  # noqa: PTH100 `..` goes, links stay
    raw, marks, text = document.read(file)
    if not isinstance(raw, dict):
        message = "A spec is a map of keys: version, project, sources, targets, …"
        raise document.refused(replace(marks, file=str(file)).problem((), message))
    loading = _Loading(file, marks, environment, unset == "keep", cached, env_files, lost or {})
    return replace(loading.spec(raw, profile), text=text)


@dataclass
class _Loading:
    """What is gathered while one file is loaded."""

    file: Path
    marks: Marks
    given: Mapping[str, str] | None  # the environment, if it is not the process's
    patient: bool  # whether sources and targets may wait for variables
    cached: bool  # whether it is remembered that the file is valid
    reads_files: bool  # whether variables are taken from the env files, too
    lost: Mapping[str, str]  # what env files said that are not there
    problems: list[Problem] = field(default_factory=list)
    waiting: dict[Place, Problem] = field(default_factory=dict)  # values without a variable

    def spec(self, raw: dict[str, Any], profile: str | None) -> Spec:
        schemas = load_schemas()
        merged = self._with_profile(raw, profile)
        profiles = {"profiles": merged.pop("profiles")} if "profiles" in merged else {}
        env_files, own = self._env_files(merged)
        outer = os.environ if self.given is None else self.given
        everything = {**own, **outer}
        expansion = Expansion(schemas, everything, self._tell)
        declared = expansion.value(merged, schemas.root)
        self._note_unset(expansion.unset)
        completion = Completion(schemas, self.file.parent, everything, expansion.unset, self._tell)
        values = completion.value(declared, schemas.root)
        self._check(declared, profiles, expansion, schemas)
        if self.problems:
            raise document.refused(*_one_a_place(self.problems))
        return self._converted(
            declared,
            values,
            digest=_digest(merged),
            profile=profile or DEFAULT_PROFILE,
            env_files=env_files,
            environment={name: everything[name] for name in own},
            unset=tuple(self.waiting.values()),
        )

    def _tell(self, place: Place, message: str, *, key: bool = False) -> None:
        self.problems.append(self.marks.problem(place, message, key=key))

    def _with_profile(self, raw: dict[str, Any], profile: str | None) -> dict[str, Any]:
        base = {name: value for name, value in raw.items() if not name.startswith("x-")}
        if profile in (None, DEFAULT_PROFILE):
            return base
        known = base.get("profiles", {})
        if isinstance(known, dict) and profile not in known:
            listed = f" Known: {', '.join(known)}." if known else " None is declared."
            hint = nearest(str(profile), known) or listed
            raise UsageError(f"There is no profile `{profile}`.", remedy=hint.strip())
        overrides = known[profile] if isinstance(known, dict) else None
        if not isinstance(overrides, dict):
            return base  # it is refused with the rest of the document
        self.marks = replace(self.marks, profile=profile)
        allowed = {name: one for name, one in overrides.items() if name not in FIXED}
        merged: dict[str, Any] = merge(base, allowed)
        return merged

    def _env_files(self, merged: Mapping[str, Any]) -> tuple[tuple[Path, ...], dict[str, str]]:
        """The env files and their values; expanded by the process's environment alone."""
        outer = os.environ if self.given is None else self.given
        schemas = load_schemas()
        node = schemas.shape(schemas.root, merged).properties["env_file"]
        named = Expansion(schemas, outer, self._silent).value(merged.get("env_file", []), node)
        names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
        files = tuple(
            convert.resolve(self.file.parent, name) for name in names if isinstance(name, str)
        )
        values = dict(self.lost)
        for file in files if self.reads_files else ():
            found, problems = read_env_file(file)
            values |= found
            self.problems.extend(problems)
        return files, values

    def _silent(self, place: Place, message: str) -> None:
        """The whole document is expanded later, and tells the same then."""

    def _note_unset(self, unset: Mapping[Place, tuple[str, ...]]) -> None:
        """Tells which variables are not set, or lets them wait."""
        for place, names in unset.items():
            listed = " and ".join(f"${{{name}}}" for name in names)
            problem = self.marks.problem(
                place,
                f"{listed} has no value. Set it in the environment or in an env_file, "
                f"or give a default: ${{{names[0]}:-default}}.",
            )
            if self.patient and place[0] in _MAY_WAIT:
                self.waiting[place] = problem
            else:
                self.problems.append(problem)

    def _check(
        self,
        declared: dict[str, Any],
        profiles: dict[str, Any],
        expansion: Expansion,
        schemas: Schemas,
    ) -> None:
        whole = {**declared, **profiles}
        state = declared.get("state", ".holdfast")
        cache = convert.resolve(self.file.parent, str(state)) / VALID_CACHE
        digest = _digest([whole, schemas.digest, __version__])
        pending = set(expansion.unset)
        self._complain(check_references(declared), pending)
        self._complain(check_passwords(whole), pending)
        if not self.cached or not remembered(cache, digest):
            before = len(self.problems)
            self._complain(check_questions(declared, schemas), pending)
            self._complain(check_schedules(declared), pending)
            self._complain(check_recipients(declared), pending)
            self._complain(Validation(schemas, whole, expansion.written).complaints(), pending)
            if len(self.problems) == before == 0 and not pending and self.cached:
                remember(cache, digest)

    def _complain(self, complaints: Iterable[Complaint], pending: set[Place]) -> None:
        """Tells complaints, but for those about values that are not known yet."""
        for place, message, key in complaints:
            if place not in pending:
                self._tell(place, message, key=key)

    def _converted(
        self, declared: Mapping[str, Any], values: Mapping[str, Any], **others: Any
    ) -> Spec:
        folder = self.file.parent
        return Spec(
            file=self.file,
            folder=folder,
            resolved=_digest(declared),
            project=values["project"],
            timezone=values["timezone"],
            compression=values["compression"],
            state=convert.resolve(folder, values["state"]),
            parallel=values["parallel"],
            sources=convert.to_sources(values, folder, self.waiting),
            targets=convert.to_targets(values, folder, self.waiting),
            policies=convert.to_policies(values),
            objectives=convert.to_objectives(values),
            services=convert.to_services(values, folder),
            recovery=convert.to_recovery(values, folder),
            checks=convert.to_checks(values),
            encryption=convert.to_encryption(values, self.waiting),
            contacts=tuple(values["contacts"]),
            notices=convert.to_notices(values),
            signing=convert.to_signing(values, folder),
            document=declared,
            marks=self.marks,
            **others,
        )


def _one_a_place(problems: Iterable[Problem]) -> list[Problem]:
    """The first problem of each place: what follows from it says nothing new."""
    first: dict[tuple[str, int, int, str], Problem] = {}
    for one in problems:
        first.setdefault((one.file, one.line, one.column, one.path), one)
    return list(first.values())


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
