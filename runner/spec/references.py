"""What a schema cannot say: names that must exist, questions that must be one, zones, schedules.

Works on the document, which need not be valid, so that all problems are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.spec.marks import Place, nearest
from runner.spec.schedule import Schedule
from runner.spec.schema import Schemas
from runner.spec.validate import Complaint, mapping

SYSTEM = "system"
ACTIONS = ("restore", "run", "probe", "manual", "notify")
WAYS = ("run", "post")
QUESTIONS = ("http", "tcp", "sql", "redis", "run", "file")
LANGUAGES = ("sql", "redis")
NEED_SOURCE = (*LANGUAGES, "file")

_PASSWORD = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s@:]*:[^/\s@]+@"
    r"|[A-Za-z][A-Za-z0-9+.-]*://\S*[?&](?:password|passwd|sslpassword|secret|token)=[^&\s]"
)


def check_references(document: Mapping[str, Any]) -> Iterator[Complaint]:
    """Everything in a document that names what is not there, or contradicts itself."""
    sources = mapping(document.get("sources"))
    services = mapping(document.get("services"))
    yield from _policies(document, sources)
    for name, service in services.items():
        yield from _unknown(_names(mapping(service).get("sources")), sources, "source",
                            ("services", name, "sources"))  # fmt: skip
        if name in sources:
            message = f"`{name}` is a source too. Give the service another name."
            yield ("services", name), message, True
    known = (SYSTEM, *sources, *services)
    yield from _unknown_keys(document, "objectives", known, "source or service")
    yield from _unknown_keys(document, "checks", sources, "source")
    for name, checks in mapping(document.get("checks")).items():
        for index, check in enumerate(checks if isinstance(checks, list) else ()):
            yield from _one_of(check, QUESTIONS, ("checks", name, index))
    yield from _recovery(document.get("recovery"), sources)
    notices = document.get("notify")
    for index, notice in enumerate(notices if isinstance(notices, list) else ()):
        yield from _one_of(notice, WAYS, ("notify", index))


def check_questions(document: Mapping[str, Any], schemas: Schemas) -> Iterator[Complaint]:
    """Questions that a source of its type never answers."""
    kinds = {
        name: mapping(one).get("type") for name, one in mapping(document.get("sources")).items()
    }
    answers = {
        name: schemas.question_of(kind)
        for name, kind in kinds.items()
        if kind in schemas.types("source")
    }
    for asked, source, place in _questions(document):
        if asked == "file" and place[0] == "checks" and answers.get(source) is not None:
            message = (
                f"`{source}` is {kinds[source]}: no folder is restored in which a file could lie. "
                f"Ask it {answers[source]}."
            )
            yield (*place, asked), message, True
        elif asked != "file" and source in answers and asked != answers[source]:
            fitting = [one for one, answer in answers.items() if answer == asked]
            instead = f"of {', '.join(fitting)}" if fitting else "of a database"
            other = answers[source] or "run or file"
            message = (
                f"`{source}` is {kinds[source]}: it answers no `{asked}`. Ask it {other}, "
                f"or ask this {instead}."
            )
            yield (*place, asked), message, True


def _questions(document: Mapping[str, Any]) -> Iterator[tuple[str, Any, Place]]:
    """Every question that not each source answers, of which, and where it stands."""
    asked: list[tuple[Any, Any, Place]] = []
    for name, checks in mapping(document.get("checks")).items():
        for index, check in enumerate(checks if isinstance(checks, list) else ()):
            asked.append((check, name, ("checks", name, index)))
    recovery = document.get("recovery")
    for index, step in enumerate(recovery if isinstance(recovery, list) else ()):
        probe = mapping(mapping(step).get("probe"))
        asked.append((probe, probe.get("source"), ("recovery", index, "probe")))
    for question, source, place in asked:
        for asked_for in NEED_SOURCE:
            if asked_for in mapping(question) and isinstance(source, str):
                yield asked_for, source, place


def check_schedules(document: Mapping[str, Any]) -> Iterator[Complaint]:
    """A timezone or a schedule that means nothing."""
    zone = document.get("timezone", "UTC")
    if not isinstance(zone, str) or not _zone_exists(zone):
        message = f"The timezone {zone!r} is not known. Write one like Europe/Berlin, or UTC."
        yield ("timezone",), message, False
        zone = "UTC"
    for name, policy in mapping(document.get("policies")).items():
        schedule = mapping(policy).get("schedule")
        if isinstance(schedule, str):
            try:
                Schedule.parse(schedule, zone)
            except ValueError as error:
                yield ("policies", name, "schedule"), str(error), False


def check_recipients(document: Mapping[str, Any]) -> Iterator[Complaint]:
    """Public keys with a letter too few: what is encrypted for them at night is nothing at all."""
    listed = mapping(document.get("encryption")).get("recipients")
    keys = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    if not keys:
        return
    try:
        import pyrage
    except ImportError:
        return  # there is no wheel for this machine, and the program `age` is asked when it is used
    for index, key in enumerate(keys):
        family = pyrage.ssh if key.startswith("ssh-") else pyrage.x25519
        try:
            family.Recipient.from_str(key)
        except pyrage.RecipientError as error:
            message = f"This is no public key: {error}. Write one of age, ssh-ed25519 or ssh-rsa."
            yield ("encryption", "recipients", index), message, False


def check_passwords(value: Any, place: Place = ()) -> Iterator[Complaint]:
    """URLs that hold a password. It is not repeated."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from check_passwords(one, (*place, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from check_passwords(one, (*place, index))
    elif isinstance(value, str) and _PASSWORD.search(value):
        message = (
            "This URL holds a password, which would end up in plans and logs. Take it out and "
            'declare it apart: password: {secret: "env:NAME"}, or url: {secret: "env:NAME"}.'
        )
        yield place, message, False


def _policies(document: Mapping[str, Any], sources: Mapping[str, Any]) -> Iterator[Complaint]:
    targets = mapping(document.get("targets"))
    for name, policy in mapping(document.get("policies")).items():
        for part, known in (("sources", sources), ("targets", targets)):
            place = ("policies", name, part)
            yield from _unknown(_names(mapping(policy).get(part)), known, part[:-1], place)


def _recovery(recovery: Any, sources: Mapping[str, Any]) -> Iterator[Complaint]:
    restored: dict[str, str] = {}
    names: set[str] = set()
    for index, step in enumerate(recovery if isinstance(recovery, list) else ()):
        if not isinstance(step, Mapping):
            continue
        place: Place = ("recovery", index)
        yield from _one_of(step, ACTIONS, place)
        yield from _useless(step, place)
        name = step.get("name")
        if isinstance(name, str) and name in names:
            message = f"The name `{name}` is taken by an earlier step. Choose another."
            yield (*place, "name"), message, False
        names.add(str(name))
        yield from _restores(step.get("restore"), sources, restored, (*place, "restore"))
        yield from _probe(step.get("probe"), sources, (*place, "probe"))
        yield from _one_of(step.get("notify"), WAYS, (*place, "notify"))


def _restores(
    value: Any, sources: Mapping[str, Any], restored: dict[str, str], place: Place
) -> Iterator[Complaint]:
    yield from _unknown(_names(value), sources, "source", place)
    for key, name in _names(value):
        if name in restored:
            message = f"The source `{name}` is restored already, by {restored[name]}. Remove one."
            yield place + key, message, False
        elif name in sources:
            restored[name] = f"recovery[{place[1]}]"


def _probe(probe: Any, sources: Mapping[str, Any], place: Place) -> Iterator[Complaint]:
    if not isinstance(probe, Mapping):
        return
    yield from _one_of(probe, QUESTIONS, place)
    for key in ("body", "ca", "insecure"):
        if key in probe and "http" not in probe:
            yield (*place, key), f"`{key}` means something beside http only. Remove it.", True
    source = probe.get("source")
    asked = [question for question in NEED_SOURCE if question in probe]
    if asked and source is None:
        message = f"`{asked[0]}` needs to know of what: add `source: NAME`."
        yield place, message, False
    yield from _unknown(_names(source), sources, "source", (*place, "source"))


def _useless(step: Mapping[str, Any], place: Place) -> Iterator[Complaint]:
    """Keys that mean nothing beside the step's action."""
    commands = ("run", "probe", "notify")
    wanted = {"drill": ("run", "probe"), "env": commands, "working_dir": commands,
              "checklist": ("manual",), "retries": ("restore", "run", "probe"),
              "when": (*commands, "manual")}  # fmt: skip
    said = {key for key, value in step.items() if (key, value) != ("when", "success")}
    for key, actions in wanted.items():
        if key in said and not any(action in step for action in actions):
            message = f"`{key}` means something beside {' or '.join(actions)} only. Remove it."
            yield (*place, key), message, True


def _one_of(value: Any, choices: tuple[str, ...], place: Place) -> Iterator[Complaint]:
    if not isinstance(value, Mapping):
        return
    given = [choice for choice in choices if choice in value]
    if not given:
        yield place, f"One of these is missing: {', '.join(choices)}.", False
    for extra in given[1:]:
        message = f"`{given[0]}` and `{extra}` stand together. Make two of them."
        yield (*place, extra), message, True


def _unknown(
    names: Iterable[tuple[Place, str]], known: Iterable[str], what: str, place: Place
) -> Iterator[Complaint]:
    for key, name in names:
        if name not in known:
            yield place + key, _no_such(name, known, what), False


def _unknown_keys(
    document: Mapping[str, Any], part: str, known: Iterable[str], what: str
) -> Iterator[Complaint]:
    for name in mapping(document.get(part)):
        if name not in known:
            yield (part, name), _no_such(name, known, what), True


def _no_such(name: str, known: Iterable[str], what: str) -> str:
    listed = f" Known: {', '.join(known)}."
    return f"There is no {what} `{name}`.{nearest(name, known) or listed}"


def _names(value: Any) -> list[tuple[Place, str]]:
    """The names in a value, one or a list, each with its place in it."""
    if isinstance(value, str):
        return [((), value)]
    items = value if isinstance(value, list) else ()
    return [((index,), one) for index, one in enumerate(items) if isinstance(one, str)]


def _zone_exists(name: str) -> bool:
    if name == "UTC":
        return True
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
