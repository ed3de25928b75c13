"""What a spec says, as frozen values: durations in seconds, sizes in bytes, paths absolute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import SpecError, UsageError
from runner.secret import Secret
from runner.spec.marks import Marks, Problem

Named = TypeVar("Named")

VERIFY_LEVELS = ("stored", "readable", "restored")
DEFAULT_POLICY = "default"
DEFAULT_PROFILE = "default"


class Options(Mapping[str, Any]):
    """Options of which some wait for a variable: reading one of those raises SpecError."""

    def __init__(self, values: Mapping[str, Any], waiting: Mapping[str, Problem]) -> None:
        self._values = values
        self._waiting = waiting

    def __getitem__(self, name: str) -> Any:
        if name in self._waiting:
            raise unset_error([self._waiting[name]])
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Options({self._values!r})"

    def as_written(self) -> dict[str, Any]:
        """All of them, where what waits is the text that names the variable."""
        return dict(self._values)


@dataclass(frozen=True)
class SourceSpec:
    """Something to protect."""

    name: str
    type: str  # names a module in runner/source and a file in schema/source
    options: Mapping[str, Any]  # valid by that schema, its defaults filled in; secrets as Secret
    folder: Path  # relative paths in `options` start here


@dataclass(frozen=True)
class Keep:
    """A retention: the union of what each rule keeps. An empty one keeps everything."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: float = 0.0  # seconds
    max_size: int | None = None  # bytes; a cap applied after the union

    @property
    def forever(self) -> bool:
        """Whether no rule ever lets go of a snapshot."""
        return self == Keep()


@dataclass(frozen=True)
class TargetSpec:
    """Somewhere to keep snapshots."""

    name: str
    type: str  # names a module in runner/target and a file in schema/target
    options: Mapping[str, Any]  # valid by that schema, its defaults filled in; secrets as Secret
    folder: Path  # relative paths in `options` start here
    keep: Keep | None = None  # None: the policy's


@dataclass(frozen=True)
class Policy:
    """Which sources, how often, to which targets, kept how long, verified how deeply."""

    name: str
    sources: tuple[str, ...]  # never empty; all exist
    targets: tuple[str, ...]  # never empty; all exist; the first is the primary
    kind: str = "full"
    schedule: str | None = None  # a cron line or a duration; None: by hand only
    keep: Keep = field(default_factory=Keep)
    verify: str = "stored"
    skip_unchanged: bool = False
    expected: float | None = None  # seconds; longer is told as slow
    timeout: float | None = None  # seconds


@dataclass(frozen=True)
class Objective:
    """What was promised for a source, a service or the whole `system`. All in seconds."""

    name: str
    rto: float | None = None
    rpo: float | None = None
    drill_every: float | None = None
    proof_every: float | None = None


@dataclass(frozen=True)
class Service:
    """What writes to sources: stopped before they are replaced, started when they are proven."""

    name: str
    stop: str | None
    start: str | None
    sources: tuple[str, ...]
    working_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None


@dataclass(frozen=True)
class Probe:
    """One question asked of what was restored. `kind` is its question, `value` as written."""

    kind: str  # http | tcp | sql | redis | run | file
    value: str
    source: str | None = None  # whose content is asked; None for http, tcp and run in `recovery`
    name: str = ""
    expect: Any = None  # http: the status; sql, redis: the answer
    at_least: float | None = None
    within: float = 0.0  # seconds to keep asking until it holds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Notification:
    """A message for people; exactly one of run and post is given."""

    text: str
    run: str | None = None
    post: Secret | str | None = None  # an address of http or https


@dataclass(frozen=True)
class Notice:
    """Whom to tell how a command ended."""

    way: Notification  # its text comes first, if there is one
    of: tuple[str, ...]  # the commands: backup | verify | prune | drill | rekey
    when: str  # success | failure | always
    again: float  # seconds until a failure that lasts is told again


@dataclass(frozen=True)
class RecoveryStep:
    """One entry of `recovery:`; exactly one of restore, run, probe, manual and notify is given."""

    name: str  # unique in the recovery
    restore: tuple[str, ...] = ()  # one wave of sources
    run: str | None = None
    probe: Probe | None = None
    manual: str | None = None
    checklist: tuple[str, ...] = ()  # of a manual step
    notify: Notification | None = None
    drill: str = "skip"  # skip | same | a command of its own
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: Path = field(default_factory=Path)
    timeout: float | None = None
    expected: float | None = None
    retries: int = 0
    when: str = "success"  # success | failure | always


@dataclass(frozen=True)
class Encryption:
    """Who can read what is stored, and where the key to read it lies."""

    declared: tuple[str, ...]  # age or ssh public keys; never empty
    identity: Secret | None = None
    waiting: tuple[Problem, ...] = ()  # what lacks a variable here

    @property
    def recipients(self) -> tuple[str, ...]:
        """Those to write for, who are not needed to read. Raises SpecError where one of them waits
        for a variable: nothing is ever written for the others alone.
        """
        if self.waiting:
            raise unset_error(self.waiting)
        return self.declared


@dataclass(frozen=True)
class Signing:
    """Who signs snapshots here, and whose signatures count. At least one of them is given."""

    key: Secret | None = None  # an SSH private key; None: what this host makes is not signed
    allowed_signers: Path | None = None  # as ssh-keygen reads it; None: nothing is checked


@dataclass(frozen=True)
class Spec:
    """The whole declaration, with one profile applied."""

    file: Path
    folder: Path  # of the file; relative paths start here
    digest: str  # sha256 of what is declared, profile applied, nothing expanded
    resolved: str  # the same after `${}` was expanded, secrets as references
    project: str
    profile: str  # `default` when none was asked for
    timezone: str
    compression: str  # zstd | gzip | none, with `:level` if one was given
    state: Path
    parallel: int
    sources: Mapping[str, SourceSpec]  # in the order of the file, as all mappings here
    targets: Mapping[str, TargetSpec]
    policies: Mapping[str, Policy]  # at least one
    objectives: Mapping[str, Objective]
    services: Mapping[str, Service]
    recovery: tuple[RecoveryStep, ...]  # never empty
    checks: Mapping[str, tuple[Probe, ...]]  # by source
    encryption: Encryption | None = None
    signing: Signing | None = None
    contacts: tuple[str, ...] = ()  # whom to call on the bad day
    notices: tuple[Notice, ...] = ()  # whom to tell how a command ended
    env_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # from the env files
    document: Mapping[str, Any] = field(default_factory=dict)  # as declared, expanded; plain JSON
    text: bytes = field(default=b"", compare=False, repr=False)  # the file as it was read
    marks: Marks = field(default_factory=Marks, compare=False, repr=False)  # positions in the file
    unset: tuple[Problem, ...] = ()  # what waits for a variable; see `require`

    def source(self, name: str) -> SourceSpec:
        """The source of that name. Raises UsageError, naming the known ones."""
        return _named(self.sources, name, "source")

    def target(self, name: str) -> TargetSpec:
        """The target of that name. Raises UsageError, naming the known ones."""
        return _named(self.targets, name, "target")

    def policy(self, name: str) -> Policy:
        """The policy of that name. Raises UsageError, naming the known ones."""
        return _named(self.policies, name, "policy")

    def left_out(self) -> tuple[Path, ...]:
        """The absolute paths that no capture contains: state, local targets, private keys."""
        paths = [self.state]
        paths += [
            one.folder / Path(one.options["path"]).expanduser()
            for one in self.targets.values()
            if one.type == "local"
        ]
        if self.encryption and self.encryption.identity and self.encryption.identity.file:
            paths.append(self.encryption.identity.file)
        if self.signing and self.signing.key and self.signing.key.file:
            paths.append(self.signing.key.file)
        return tuple(path.absolute() for path in paths)

    def require(self, part: str) -> None:
        """Raise SpecError if something in a part of the spec (`services.bot`, `recovery[1]`,
        `checks`) waits for a variable. Only a spec loaded with `unset="keep"` can be waiting.
        """
        inside = (f"{part}.", f"{part}[")
        waiting = [one for one in self.unset if f"{one.path}.".startswith(inside)]
        if waiting:
            raise unset_error(waiting)

    def keep_at(self, policy: Policy, target: str) -> Keep:
        """The retention that holds for a policy's snapshots at one target."""
        return self.targets[target].keep or policy.keep


def unset_error(problems: Sequence[Problem]) -> SpecError:
    """The error of a command that needs values which are not set."""
    first = problems[0]
    where = {"line": first.line, "column": first.column}
    return SpecError(str(first), problems=problems, file=first.file, **where)


def _named(known: Mapping[str, Named], name: str, what: str) -> Named:
    if name in known:
        return known[name]
    raise UsageError(f"There is no {what} `{name}`.", remedy=f"Known: {', '.join(known)}.")
