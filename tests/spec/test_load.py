"""From a file to a Spec: typing, defaults, profiles, variables, secrets, and every error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import SpecError, UsageError
from runner.secret import Secret
from runner.spec.load import VALID_CACHE, find_spec, load_spec
from runner.spec.marks import Problem
from runner.spec.model import Keep
from tests.spec.builders import EXAMPLES, SMALL, problems_of, told, write_spec

KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def test_a_small_spec_is_completed(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path), environment={})
    assert (spec.project, spec.profile, spec.timezone) == ("quaybot", "default", "UTC")
    assert (spec.compression, spec.parallel) == ("zstd", 2)
    assert spec.state == tmp_path / ".holdfast"
    assert list(spec.policies) == ["default"]
    policy = spec.policy("default")
    assert (policy.sources, policy.targets) == (("db", "config"), ("disk",))
    assert policy.keep.forever
    assert spec.sources["config"].options["exclude"] == []
    assert spec.sources["db"].options["path"] == "data/quaybot.db"
    assert spec.targets["disk"].folder == tmp_path


def test_the_whole_grammar_is_converted() -> None:
    spec = load_spec(EXAMPLES / "quaybot.yaml", environment={})
    nightly = spec.policy("nightly")
    assert nightly.keep == Keep(last=3, daily=7, weekly=4, monthly=12, within=30 * 86400)
    assert (nightly.expected, nightly.timeout, nightly.skip_unchanged) == (300, 7200, False)
    assert spec.targets["disk"].options["min_free"] == 5 * 2**30
    assert spec.targets["usb"].options["path"] == "/mnt/usb/quaybot"
    assert spec.keep_at(nightly, "usb") == Keep(daily=30)
    assert spec.keep_at(nightly, "disk") == nightly.keep
    assert spec.objectives["system"].drill_every == 90 * 86400
    assert spec.services["bot"].sources == ("db",)
    assert spec.services["bot"].working_dir == EXAMPLES
    assert spec.encryption is not None
    assert spec.encryption.recipients == (KEY,)
    assert spec.encryption.identity == Secret("file:/mnt/key/quay.key")
    assert spec.checks["db"][0].kind == "sql"
    assert spec.checks["config"][0].value == ".env"


def test_the_recovery_keeps_its_order_and_names_its_steps() -> None:
    spec = load_spec(EXAMPLES / "quaybot.yaml", environment={})
    names = [step.name for step in spec.recovery]
    assert names[:4] == ["provision", "restore-code", "restore-config", "restore-db"]
    provision, deploy, healthy = spec.recovery[0], spec.recovery[4], spec.recovery[5]
    assert (provision.drill, provision.timeout) == ("skip", 1800)
    assert provision.working_dir == EXAMPLES / "infrastructure"
    assert deploy.run == "docker compose up -d --build ${NOT_EXPANDED}"
    assert healthy.probe is not None
    assert (healthy.probe.kind, healthy.probe.expect, healthy.probe.within) == ("http", 200, 300)


def test_without_a_recovery_code_comes_first_and_databases_last(tmp_path: Path) -> None:
    text = SMALL.replace("targets:", "  code: {type: git, path: .}\ntargets:")
    spec = load_spec(write_spec(tmp_path, text), environment={})
    assert [step.restore for step in spec.recovery] == [("code",), ("config",), ("db",)]
    assert spec.recovery[0].name == "restore-code"


def test_names_of_steps_are_unique_and_never_too_long(tmp_path: Path) -> None:
    names = [f"{'x' * 50}{number}" for number in range(3)]
    sources = "".join(f"  {name}: {{type: files, paths: [{name}]}}\n" for name in names)
    text = (
        f"version: 1\nproject: a\nsources:\n{sources}targets: {{t: {{type: local, path: b}}}}\n"
        f"recovery: [{{restore: [{', '.join(names)}]}}, {{run: a, name: run-3}}, {{run: b}}]\n"
    )
    steps = load_spec(write_spec(tmp_path, text), environment={}).recovery
    assert len({step.name for step in steps}) == 3
    assert all(len(step.name) <= 63 for step in steps)


def test_a_profile_overrides_and_removes() -> None:
    spec = load_spec(EXAMPLES / "quaybot.yaml", "prod", environment={})
    assert spec.profile == "prod"
    assert list(spec.targets) == ["disk"]
    assert spec.targets["disk"].options["path"] == "/srv/backups"
    assert spec.targets["disk"].options["min_free"] == 5 * 2**30
    plain = load_spec(EXAMPLES / "quaybot.yaml", environment={})
    assert spec.digest != plain.digest
    assert "profiles" not in plain.document


def test_an_error_in_an_override_is_told_where_it_stands(tmp_path: Path) -> None:
    text = SMALL + "profiles:\n  prod:\n    targets: {disk: {path: [1]}}\n    parallel: 0\n"
    assert problems_of(tmp_path, text) == ()
    problems = problems_of(tmp_path, text, "prod")
    assert [(one.path, one.line) for one in problems] == [
        ("targets.disk.path", 10),
        ("parallel", 11),
    ]


def test_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    text = SMALL + "profiles: {prod: {}, staging: {}}\n"
    with pytest.raises(UsageError) as caught:
        load_spec(write_spec(tmp_path, text), "prd", environment={})
    assert "Did you mean `prod`" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        load_spec(write_spec(tmp_path), "prod", environment={})
    assert "None is declared" in caught.value.remedy


@pytest.mark.parametrize("written", ["{prod: }", "{prod: 3}", "[prod]"])
def test_a_profile_that_is_no_map_is_an_error_of_the_spec(tmp_path: Path, written: str) -> None:
    (message,) = told(problems_of(tmp_path, SMALL + f"profiles: {written}\n", "prod")).values()
    assert "This must be a map" in message


def test_a_profile_cannot_change_what_is_fixed(tmp_path: Path) -> None:
    text = SMALL + "profiles: {prod: {project: other}}\n"
    said = told(problems_of(tmp_path, text, "prod"))["profiles.prod.project"]
    assert said == "`project` is the same in every profile: write it at the top only."


def test_text_becomes_what_the_schema_wants(tmp_path: Path) -> None:
    text = (
        SMALL
        + 'parallel: "${JOBS}"\n'
        + 'services: {bot: {stop: "a $X", sources: [db], env: {PORT: 8080, A: no}}}\n'
    )
    spec = load_spec(write_spec(tmp_path, text), environment={"JOBS": "4"})
    assert spec.parallel == 4
    assert spec.services["bot"].environment == {"PORT": "8080", "A": "no"}
    assert spec.services["bot"].stop == "a $X"
    assert spec.document["parallel"] == 4


def test_env_files_give_values_and_the_process_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DISK=from-file\nTOKEN=from-file\nLATE=1\n")
    (tmp_path / "more.env").write_text("LATE=2\n")
    text = SMALL.replace("path: backups", 'path: "${DISK}/${LATE}"')
    text += "env_file: [.env, more.env, missing.env]\n"
    spec = load_spec(write_spec(tmp_path, text), environment={"TOKEN": "from-process", "X": "1"})
    assert spec.targets["disk"].options["path"] == "from-file/2"
    assert spec.environment == {"DISK": "from-file", "TOKEN": "from-process", "LATE": "2"}
    assert spec.env_files == tuple(tmp_path / one for one in (".env", "more.env", "missing.env"))


def test_secrets_are_read_from_both_environments(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY_FILE=in-env-file\n")
    text = (
        SMALL
        + "env_file: .env\n"
        + f'encryption: {{recipients: [{KEY}], identity: {{secret: "env:KEY_FILE"}}}}\n'
    )
    spec = load_spec(write_spec(tmp_path, text), environment={})
    assert spec.encryption is not None
    assert spec.encryption.identity is not None
    assert spec.encryption.identity.reveal() == "in-env-file"
    assert "in-env-file" not in repr(spec.document) + repr(spec.encryption)


def test_a_variable_without_a_value_is_told_with_its_position(tmp_path: Path) -> None:
    text = SMALL.replace("path: backups", 'path: "${DISK}/x"') + 'timezone: "${ZONE}"\n'
    problems = problems_of(tmp_path, text)
    assert [(one.path, one.line, one.column) for one in problems] == [
        ("targets.disk.path", 7, 29),
        ("timezone", 8, 11),
    ]
    assert "${DISK:-default}" in problems[0].message


def test_a_variable_may_be_missing_until_its_target_is_needed(tmp_path: Path) -> None:
    text = SMALL.replace("path: backups", 'path: "${DISK}", min_free: "${FREE}"')
    spec = load_spec(write_spec(tmp_path, text), environment={}, unset="keep")
    assert spec.targets["disk"].type == "local"
    with pytest.raises(SpecError, match=r"targets\.disk\.path: .*DISK"):
        spec.targets["disk"].options["path"]
    with pytest.raises(SpecError, match="DISK"):
        dict(spec.targets["disk"].options)
    spec.require("sources")
    with pytest.raises(SpecError, match="DISK") as caught:
        spec.require("targets.disk")
    assert len(caught.value.problems) == 2
    whole = load_spec(spec.file, environment={"DISK": "d", "FREE": "1MB"}, unset="keep")
    whole.require("targets.disk")
    assert whole.targets["disk"].options["min_free"] == 1_000_000


def test_the_recovery_may_wait_for_what_it_restores(tmp_path: Path) -> None:
    text = (
        SMALL
        + "recovery: [{restore: [db, config]}, "
        + '{probe: {http: "http://${HOST}/", within: "${MAX}"}}]\n'
    )
    spec = load_spec(write_spec(tmp_path, text), environment={}, unset="keep")
    probe = spec.recovery[1].probe
    assert probe is not None
    assert probe.value == "http://${HOST}/"
    spec.require("recovery[0]")
    for part in ("recovery[1]", "recovery[1].probe.http", "recovery"):
        with pytest.raises(SpecError, match="HOST"):
            spec.require(part)


def test_an_unknown_home_folder_is_told(tmp_path: Path) -> None:
    text = SMALL.replace("path: backups", "path: ~nobody-of-that-name/backups")
    assert "home folder" in told(problems_of(tmp_path, text))["targets.disk.path"]


def test_a_line_end_after_a_name_is_no_part_of_it(tmp_path: Path) -> None:
    assert "project" in told(problems_of(tmp_path, SMALL.replace("quaybot", '"quaybot\\n"', 1)))
    assert problems_of(tmp_path, SMALL.replace("  db:", '  "db\\n":'))


def test_a_variable_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    text = SMALL.replace("path: backups", 'path: "${DISK}"')
    problems = problems_of(tmp_path, text, DISK="a\udcff")
    assert "not UTF-8" in told(problems)["targets.disk.path"]


def test_what_is_no_option_cannot_wait_for_its_variable(tmp_path: Path) -> None:
    file = write_spec(tmp_path, SMALL + 'parallel: "${JOBS}"\n')
    with pytest.raises(SpecError, match="JOBS"):
        load_spec(file, environment={}, unset="keep")


@pytest.mark.parametrize(
    "text", ["hunter2", '"${PASSWORD}"', "[hunter2]", "{secret: hunter2}", "{secrt: hunter2}"]
)
def test_a_secret_as_text_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    spec = SMALL + f"encryption: {{recipients: [{KEY}], identity: {text}}}\n"
    problems = problems_of(tmp_path, spec, PASSWORD="hunter2")
    assert problems
    assert "secret" in problems[0].message
    assert "hunter2" not in str(problems)


def test_the_remedy_for_an_expanded_secret_names_its_variable(tmp_path: Path) -> None:
    spec = SMALL + f'encryption: {{recipients: [{KEY}], identity: "${{MY_KEY}}"}}\n'
    problems = problems_of(tmp_path, spec, MY_KEY="hunter2")
    assert '{secret: "env:MY_KEY"}' in problems[0].message


@pytest.mark.parametrize(
    "url",
    [
        "https://u:hunter2@host/x.git",
        "redis://:hunter2@host:6379/0",
        "postgres://h/d?password=hunter2",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    text = SMALL + f'recovery: [{{restore: [db, config]}}, {{probe: {{http: "{url}"}}}}]\n'
    problems = problems_of(tmp_path, text)
    assert "holds a password" in problems[0].message
    assert "hunter2" not in str(problems)


def test_what_a_variable_holds_is_not_repeated_in_errors(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, SMALL + 'parallel: "${JOBS}"\n', JOBS="hunter2")
    assert "${JOBS}" in problems[0].message
    assert "hunter2" not in str(problems)


def test_a_private_key_among_recipients_is_not_repeated(tmp_path: Path) -> None:
    text = SMALL + "encryption: {recipients: [AGE-SECRET-KEY-1QQPZRY9X8]}\n"
    assert "QQPZ" not in str(problems_of(tmp_path, text))


def test_all_errors_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
version: 2
project: Quay Bot
timzone: Europe/Berlin
sources:
  db: {type: sqlit, path: x}
  config: {type: files, pats: [x]}
  system: {type: git, path: .}
targets:
  disk: {type: local, path: b, min_free: 5 gigabytes}
policies:
  nightly: {sources: [dbb], schedule: "99 2 * * *", verify: deeply}
"""
    problems = problems_of(tmp_path, text)
    assert [(one.path, one.line, one.column) for one in problems] == [
        ("version", 1, 10),
        ("project", 2, 10),
        ("timzone", 3, 1),
        ("sources.db.type", 5, 14),
        ("sources.config.paths", 6, 3),
        ("sources.config.pats", 6, 25),
        ("sources.system", 7, 3),
        ("targets.disk.min_free", 9, 42),
        ("policies.nightly.sources[0]", 11, 23),
        ("policies.nightly.schedule", 11, 39),
        ("policies.nightly.verify", 11, 61),
    ]
    said = told(problems)
    assert "Did you mean `timezone`" in said["timzone"]
    assert "Did you mean `sqlite`" in said["sources.db.type"]
    assert "Did you mean `paths`" in said["sources.config.pats"]
    assert "reserved" in said["sources.system"]


def test_an_unknown_type_names_the_known_ones(tmp_path: Path) -> None:
    message = told(problems_of(tmp_path, SMALL.replace("local", "tape")))["targets.disk.type"]
    assert "Known:" in message
    assert "local" in message


def test_the_error_says_the_first_problem_and_how_many_follow(tmp_path: Path) -> None:
    file = write_spec(tmp_path, SMALL + "parallel: 0\npolices: {}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(file, environment={})
    error = caught.value
    assert (error.exit_code, error.file, error.line, error.column) == (3, str(file), 8, 11)
    assert error.message.startswith(f"{file}:8:11: parallel: ")
    assert "1 more problem" in error.message
    assert error.as_json()["kind"] == "spec"


def test_a_bad_env_file_is_told_in_its_own_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nnonsense\n")
    problems = problems_of(tmp_path, SMALL + "env_file: .env\n")
    assert [(one.file, one.line) for one in problems] == [(str(tmp_path / ".env"), 2)]


def test_private_keys_of_the_root_are_ignored_but_for_their_anchors(tmp_path: Path) -> None:
    text = SMALL.replace("sources:", "x-all: &all {anything: [goes]}\nsources:")
    assert problems_of(tmp_path, text) == ()
    inside = SMALL.replace("path: backups", "path: backups, x-note: 1")
    assert "targets.disk.x-note" in told(problems_of(tmp_path, inside))


def test_the_digest_is_of_what_is_declared(tmp_path: Path) -> None:
    first = load_spec(write_spec(tmp_path), environment={})
    commented = load_spec(write_spec(tmp_path, "# a comment\n" + SMALL), environment={})
    other = load_spec(write_spec(tmp_path, SMALL + "parallel: 3\n"), environment={})
    assert first.digest == commented.digest != other.digest
    assert json.loads(json.dumps(first.document)) == first.document


def test_a_valid_spec_is_remembered_where_there_is_a_state_folder(tmp_path: Path) -> None:
    file = write_spec(tmp_path)
    load_spec(file, environment={})
    assert not (tmp_path / ".holdfast").exists()
    (tmp_path / ".holdfast").mkdir()
    load_spec(file, environment={})
    assert (tmp_path / ".holdfast" / VALID_CACHE).is_file()
    assert "jsonschema" not in modules_of_a_load(file)
    write_spec(tmp_path, SMALL + "parallel: 0\n")
    with pytest.raises(SpecError):
        load_spec(file, environment={})


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, null]", b"\xff", b"[" * 100])
def test_a_broken_memory_is_no_trouble(tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / ".holdfast" / VALID_CACHE
    cache.parent.mkdir()
    cache.write_bytes(content)
    load_spec(write_spec(tmp_path), environment={})
    assert len([one for one in json.loads(cache.read_bytes()) if one]) >= 1


def modules_of_a_load(file: Path) -> str:
    """The modules that a process has imported once it has loaded a spec."""
    program = (
        "import sys; from pathlib import Path; from runner.spec.load import load_spec;"
        "load_spec(Path(sys.argv[1]), environment={}); print(*sys.modules, sep='\\n')"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    return outcome.stdout


def test_a_spec_is_found_upwards(tmp_path: Path) -> None:
    file = write_spec(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_spec(deep) == file
    file.unlink()
    with pytest.raises(SpecError) as caught:
        find_spec(deep)
    assert "holdfast init" in caught.value.remedy


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_load(example: Path) -> None:
    load_spec(example, environment={})


BIG = (EXAMPLES / "quaybot.yaml").read_text()
PIECES = (
    *(
        "null",
        "[]",
        "{}",
        "5",
        "-1",
        "true",
        "1e999",
        "9" * 30,
        "0s",
        "é",
        "\x00",
        "\t",
        "\n",
        "  ",
    ),
    *("${X}", "$", "a: b", "'", '"', "*x", "&x ", ": ", "- ", "{type: git}", "<<: ", "!x "),
)
WORDS = ("type", "path", "sources", "secret", "keep", "run", "restore", "probe", "sql", "name")
KEYS = (
    *("version", "project", "timezone", "env_file", "compression", "state", "parallel"),
    *("sources", "targets", "encryption", "policies", "objectives", "services", "recovery"),
    *("checks", "profiles"),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["1h", "db", "sqlite"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


def loads_or_tells(file: Path, profile: str | None = None) -> None:
    """A spec loads, is refused with problems, or lacks the profile: nothing else may happen."""
    problems: tuple[Problem, ...] | None = None
    try:
        load_spec(file, profile, environment={})
    except SpecError as error:
        problems = error.problems
    except UsageError as error:
        assert "profile" in error.message  # noqa: PT017 only an unknown profile may be told so
    assert problems is None or problems
    assert all(one.line >= 1 and one.message for one in problems or ())


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.sampled_from([None, "prod"]))
def test_any_mutation_loads_or_is_refused_with_problems(
    tmp_path_factory: pytest.TempPathFactory, random: Random, profile: str | None
) -> None:
    text = BIG
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text))
        until = min(len(text), at + random.choice([0, 0, 1, 5, 40]))
        text = text[:at] + random.choice(PIECES) + text[until:]
    file = tmp_path_factory.getbasetemp() / "mutated.yaml"
    file.write_text(text)
    loads_or_tells(file, profile)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3))
def test_any_value_under_any_key_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    base = {
        "version": 1,
        "project": "a",
        "sources": {"db": {"type": "sqlite", "path": "x"}},
        "targets": {"t": {"type": "local", "path": "y"}},
    }
    file = tmp_path_factory.getbasetemp() / "valued.yaml"
    file.write_text(json.dumps(base | values))
    loads_or_tells(file)
