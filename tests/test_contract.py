"""The contract with scripts: one JSON object a command, in a declared shape, and exit codes."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from runner.errors import StepFailed
from runner.target.local import LocalTarget
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import ROOT, Answer

SCHEMA = ROOT / "schema"
BASE = "file:///schema/"


def _registry() -> Registry[Any]:
    files = [*SCHEMA.glob("output/*.json"), SCHEMA / "manifest.json"]
    return Registry().with_resources(
        (
            f"{BASE}{file.relative_to(SCHEMA).as_posix()}",
            DRAFT7.create_resource(json.loads(file.read_text())),
        )
        for file in files
    )


REGISTRY = _registry()


def faults(document: Any, schema: str) -> list[str]:
    """How a document differs from `schema/<schema>.json`."""
    validator = Draft7Validator({"$ref": f"{BASE}{schema}.json"}, registry=REGISTRY)
    return [
        f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)
    ]


def assert_contract(answer: Answer, schema: str) -> Any:
    """The answer is one JSON object in its declared shape; `ok` says what the exit code says."""
    document = answer.json
    assert isinstance(document, dict)
    assert answer.stdout == answer.stdout.strip() + "\n"
    assert document["ok"] is (answer.status == 0), str(answer)
    assert ("error" in document) is (answer.status != 0), str(answer)
    assert faults(document, f"output/{schema}") == [], str(answer)
    return document


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with two snapshots."""
    service = Service(tmp_path_factory.mktemp("contract") / "original").build()
    program = Inside(service.folder)
    program("backup", status=0)
    service.change()
    program("backup", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """Runs commands with `--json` in one service, in the order in which the tests ask."""
    spec = SPEC.replace("nightly: {", "nightly: {schedule: 24h, ")
    service = Service(tmp_path_factory.mktemp("life") / "service", spec).build()
    program = Inside(service.folder)
    program("backup", status=0)
    return lambda *words: program(*words, "--json")


def newest(run: Callable[..., Answer]) -> str:
    found: str = run("list").json["snapshots"][0]["id"]
    return found


# Every command of the contract, in an order that works. `{snapshot}` is the newest one,
# `{run}` the newest run.
COMMANDS = [
    ("validate", "validate", 0),
    ("backup", "backup", 0),
    ("backup --due", "backup", 0),
    ("backup --policy nightly --source config,code --no-prune", "backup", 0),
    ("list", "list", 0),
    ("list --source db --policy nightly --target disk", "list", 0),
    ("show --snapshot {snapshot}", "show", 0),
    ("show --run {run}", "show-run", 0),
    ("ls --source db", "ls", 0),
    ("ls --source config --include config", "ls", 0),
    ("ls --source code", "ls", 0),
    ("verify", "verify", 0),
    ("verify --level restored --target disk", "verify", 0),
    ("verify --snapshot {snapshot} --level readable --source config --sample 50%", "verify", 0),
    ("restore --source db --to copies/db.sqlite", "restore", 0),
    ("restore --source config --confirm config", "restore", 0),
    ("restore --source db", "error", 7),
    ("fetch --snapshot {snapshot} --source config --to fetched", "fetch", 0),
    ("fetch --snapshot {snapshot} --source config --to opened --decrypt", "fetch", 0),
    ("dr-restore --confirm quaybot", "dr-restore", 0),
    ("dr-restore --rollback {run} --dry-run", "plan", 0),
    ("dr-restore --rollback {run} --confirm quaybot", "dr-restore", 0),
    ("list --safety", "list-safety", 0),
    ("prune --safety --older 1d", "prune-safety", 0),
    ("prune --safety --confirm quaybot", "prune-safety", 0),
    ("open --source config --run ls", "open", 0),
    ("drill", "drill", 0),
    ("pin --snapshot {snapshot} --until 90d", "pin", 0),
    ("pin --snapshot {snapshot} --dry-run", "plan", 0),
    ("unpin --snapshot {snapshot}", "pin", 0),
    ("prune", "prune", 0),
    ("status", "status", 0),
    ("status --ready", "ready", 0),
    ("history --runs", "history", 0),
    ("history --drills", "history", 0),
    ("history --drills --verify", "history", 0),
    ("drill --scenario random", "drill", 0),
    ("drill --scenario host-lost", "drill", 0),
    ("runbook", "runbook", 0),
    ("runbook --snapshot latest", "runbook", 0),
    ("keygen --out new.key", "keygen", 0),
    ("runbook --out runbook.md", "runbook", 0),
    ("doctor", "doctor", 0),
    ("backup --dry-run --out saved.json", "plan", 0),
    ("apply --plan saved.json", "backup", 0),
    ("restore --source db --dry-run", "plan", 0),
    ("dr-restore --dry-run", "plan", 0),
    ("drill --dry-run", "plan", 0),
    ("prune --dry-run", "plan", 0),
    ("verify --dry-run", "plan", 0),
    ("delete --snapshot {snapshot} --dry-run", "plan", 0),
    ("delete --snapshot {snapshot}", "error", 7),
    ("delete --snapshot {snapshot} --confirm {snapshot}", "prune", 0),
]


@pytest.mark.xdist_group("life")
@pytest.mark.parametrize(("line", "schema", "status"), COMMANDS, ids=[one[0] for one in COMMANDS])
def test_prints_one_object_of_the_declared_shape(
    life: Callable[..., Answer], line: str, schema: str, status: int
) -> None:
    words = line.split()
    if "{snapshot}" in words:
        words = [newest(life) if word == "{snapshot}" else word for word in words]
    if "{run}" in words:
        run = life("history").json["runs"][0]["run"]
        words = [run if word == "{run}" else word for word in words]
    answer = life(*words)
    assert answer.status == status, str(answer)
    assert_contract(answer, schema)


def test_shows_the_manifest_as_it_is_stored(service: Service, holdfast: Inside) -> None:
    snapshot = newest(lambda *words: holdfast(*words, "--json"))
    folder = service.folder / "backups" / "quaybot" / "default" / snapshot
    stored = json.loads((folder / "manifest.json").read_text())
    assert faults(stored, "manifest") == []
    shown = holdfast.json("show", "--snapshot", snapshot)
    assert {name: shown[name] for name in stored} == stored


def test_schemas_notice_a_missing_and_a_renamed_key(holdfast: Inside) -> None:
    document = holdfast.json("list")
    first = document["snapshots"][0]
    first["proven"] = first.pop("proved")
    assert len(faults(document, "output/list")) == 2


class TestExitCodes:
    def test_1_for_an_unknown_name(self, holdfast: Inside) -> None:
        for words in (
            ("backup", "--policy", "weekly"),
            ("backup", "--source", "cellar"),
            ("restore", "--source", "cellar"),
            ("restore", "--source", "db", "--from", "moon"),
            ("list", "--target", "moon"),
            ("verify", "--snapshot", "20200101T000000Z-nightly-000000"),
            ("verify", "--level", "hopefully"),
            ("show", "--run", "20200101T000000Z-backup-000000"),
            ("dr-restore", "--steps", "dance"),
            ("prune", "--policy", "weekly"),
            ("backup", "--profile", "nowhere"),
        ):
            answer = holdfast(*words, "--json")
            if words[-1] == "nowhere":
                assert answer.status in (1, 3)
                continue
            assert answer.status == 1, str(answer)
            assert assert_contract(answer, "error")["error"]["kind"] == "usage"

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("backup --no-such-flag", "There is no `--no-such-flag` here."),
            ("restore --sorce db", "There is no `--sorce` here. Did you mean `--source`?"),
            ("bakcup", "There is no `bakcup` here. Did you mean `backup`?"),
            ("--verison", "There is no `--verison` here. Did you mean `--version`?"),
            ("backup -n", "There is no `-n` here. `holdfast --list`"),
            ("validate stray", "There is no `stray` here. `holdfast --list`"),
            ("restore db", "There is no `db` here. Did you mean `holdfast restore --source db`?"),
            (
                "backup --source db config",
                "There is no `config` here. Repeat --source, or",
            ),
            ("restore --source db --source code", "There is no `code` here. --source takes one."),
            ("pin 2026", "There is no `2026` here. Did you mean `holdfast pin --snapshot 2026`?"),
            ("restore --source db --snapshot", "--snapshot has no value"),
            ("--quiet backup", "There is no `--quiet` here. It stands after `backup`."),
        ],
    )
    def test_1_for_a_line_that_cannot_be_parsed(
        self, holdfast: Inside, line: str, words: str
    ) -> None:
        document = assert_contract(holdfast(*line.split(), "--json", status=1), "error")
        assert document["error"]["kind"] == "usage"
        assert words in document["error"]["message"]
        plain = holdfast(*line.split(), status=1)
        assert plain.stdout == ""
        assert plain.stderr.startswith(f"Error: {words}")

    def test_3_for_a_wrong_spec(self, service: Service, holdfast: Inside) -> None:
        (service.folder / "backup.yaml").write_text(SPEC.replace("type: sqlite", "type: squirrel"))
        document = assert_contract(holdfast("validate", "--json", status=3), "validate")
        assert document["errors"][0]["line"] == 5
        document = assert_contract(holdfast("backup", "--json", status=3), "error")
        assert document["error"]["kind"] == "spec"
        assert document["error"]["line"] == 5

    def test_3_for_warnings_when_they_are_to_count(self, holdfast: Inside) -> None:
        document = assert_contract(holdfast("validate", "--strict", "--json", status=3), "validate")
        assert document["warnings"]

    def test_4_for_a_failed_step(self, service: Service, holdfast: Inside) -> None:
        shutil.rmtree(service.folder / "data")
        document = assert_contract(holdfast("backup", "--json", status=4), "backup")
        assert document["status"] == "partial"
        assert document["snapshots"][0]["missing"] == ["db"]
        assert document["error"]["step"] == "nightly.db.capture"
        document = assert_contract(holdfast("status", "--json", status=4), "status")
        assert document["policies"][0]["last_run"]["status"] == "partial"

    @pytest.mark.parametrize(
        "line",
        [
            "drill",
            "dr-restore --confirm quaybot",
            "restore --source db --confirm db",
            "restore --source db --from disk --confirm db",
            "show --snapshot latest",
            "ls --source db",
        ],
    )
    def test_4_for_what_cannot_be_found_while_targets_cannot_be_read(
        self, service: Service, holdfast: Inside, line: str
    ) -> None:
        for target in ("backups", "elsewhere"):
            shutil.rmtree(service.folder / target)
            (service.folder / target).write_text("a file where the disk was\n")
        document = assert_contract(holdfast(*line.split(), "--json", status=4), "error")
        assert "disk" in document["error"]["message"]

    def test_4_for_a_verification_that_says_fail(self, service: Service, holdfast: Inside) -> None:
        for stored in (service.folder / "backups").rglob("db.sqlite.zst"):
            data = bytearray(stored.read_bytes())
            data[len(data) // 2] ^= 1
            stored.write_bytes(data)
        document = assert_contract(holdfast("verify", "--json", status=4), "verify")
        verdicts = {(one["target"], one["source"]): one["verdict"] for one in document["results"]}
        assert verdicts["disk", "db"] == "FAIL"
        assert verdicts["offsite", "db"] == "PASS"

    def test_what_cannot_be_recorded_is_told_all_the_same(
        self, holdfast: Inside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = LocalTarget.put

        def read_only(target: LocalTarget, key: str, *more: Any, **options: Any) -> Any:
            if "/.records/" in key:
                raise StepFailed(f"Target {target.name} is read-only.")
            return put(target, key, *more, **options)

        monkeypatch.setattr(LocalTarget, "put", read_only)
        document = assert_contract(holdfast("verify", "--json", status=4), "verify")
        assert {one["verdict"] for one in document["results"]} == {"PASS"}
        assert "cannot be kept there: Target disk is read-only." in document["error"]["message"]
        answer = holdfast("drill", status=0)
        assert "The drill's result is not kept at disk: Target disk is read-only." in answer.stdout

    def test_5_for_a_missed_rpo(self, service: Service, holdfast: Inside) -> None:
        (service.folder / "backup.yaml").write_text(SPEC.replace("rpo: 26h", "rpo: 1ms"))
        time.sleep(1.1)  # a snapshot of this very second has no age yet
        document = assert_contract(holdfast("status", "--json", status=5), "status")
        assert document["error"]["kind"] == "objective"
        assert document["sources"][0]["rpo"]["met"] is False

    def test_5_for_a_missed_rto_in_a_drill(self, service: Service, holdfast: Inside) -> None:
        (service.folder / "backup.yaml").write_text(SPEC.replace("rto: 1h", "rto: 1ms"))
        document = assert_contract(holdfast("drill", "--json", status=5), "drill")
        assert document["rto"]["system"]["met"] is False
        assert document["error"]["kind"] == "objective"

    def test_6_while_another_run_holds_the_lock(self, service: Service, holdfast: Inside) -> None:
        slow = SPEC.replace('stop: "echo stop', 'stop: "touch waiting; sleep 60; echo stop')
        (service.folder / "backup.yaml").write_text(slow)
        with service.program.start("restore", "--source", "db", "--confirm", "db") as other:
            try:
                while not (service.folder / "waiting").exists():
                    assert other.poll() is None, other.communicate()
                    time.sleep(0.05)
                document = assert_contract(holdfast("backup", "--json", status=6), "error")
                assert document["error"]["kind"] == "locked"
                assert f"process {other.pid} on" in document["error"]["message"]
            finally:
                other.send_signal(signal.SIGINT)
                other.communicate()
        assert other.returncode == 130

    def test_7_for_a_missing_and_for_a_wrong_confirmation(
        self, service: Service, holdfast: Inside
    ) -> None:
        before = service.observe()
        for confirm in ((), ("--confirm", "db")):
            answer = holdfast("dr-restore", *confirm, "--json", status=7)
            document = assert_contract(answer, "error")
            assert document["error"]["kind"] == "person"
            assert "--confirm quaybot" in document["error"]["message"]
        assert service.observe() == before
        assert service.log() == []

    def test_7_for_a_stale_plan(self, holdfast: Inside) -> None:
        holdfast("backup", "--dry-run", "--out", "plan.json", status=0)
        holdfast("backup", status=0)
        document = assert_contract(
            holdfast("apply", "--plan", "plan.json", "--json", status=7), "error"
        )
        assert "stale" in document["error"]["message"]

    def test_7_for_a_manual_step_with_the_line_that_goes_on(
        self, service: Service, holdfast: Inside
    ) -> None:
        manual = SPEC.replace(
            "  - {name: deploy", '  - {name: dns, manual: "Point it here."}\n  - {name: deploy'
        )
        (service.folder / "backup.yaml").write_text(manual)
        answer = holdfast("dr-restore", "--confirm", "quaybot", "--json", status=7)
        document = assert_contract(answer, "dr-restore")
        assert document["error"]["step"] == "dns"
        assert document["next"] == f"holdfast dr-restore --resume {document['run']} --done dns"
        answer = holdfast(*document["next"].split()[1:], "--json", status=0)
        assert assert_contract(answer, "dr-restore")["next"] is None
        assert service.log()[-1] == "deployed"

    def test_the_next_line_has_the_flags_that_this_one_had(
        self, service: Service, tmp_path: Path
    ) -> None:
        by_hand = SPEC.replace(
            "  - {name: deploy", '  - {name: dns, manual: "Point it here."}\n  - {name: deploy'
        )
        (service.folder / "backup.yaml").unlink()
        (service.folder / "other spec.yaml").write_text(by_hand + "profiles: {prod: {}}\n")
        flags = ["--file", str(service.folder / "other spec.yaml"), "--profile", "prod"]
        elsewhere = Inside(tmp_path)
        elsewhere("backup", *flags, status=0)
        key = tmp_path / "my key"
        words = ("dr-restore", "--confirm", "quaybot", "--identity", "my key", "--json")
        document = elsewhere(*words, *flags, status=7).json
        going_on = ["dr-restore", "--resume", document["run"], "--done", "dns"]
        typed = shlex.split(document["next"])
        assert typed == ["holdfast", *going_on, *flags, "--identity", str(key)]
        assert "holdfast" not in document["error"]["message"]  # there is one line to type
        elsewhere(*typed[1:], status=0)
        document = elsewhere("drill", *flags, "--from", "offsite", "--json", status=7).json
        assert document["repeat"] == "holdfast drill --from offsite --profile prod"
        (service.folder / "data" / "quaybot.db").unlink()
        document = elsewhere("backup", *flags, "--json", status=4).json
        assert shlex.split(document["next"])[-4:] == flags
        document = elsewhere("status", *flags, "--json", status=4).json
        assert document["error"]["message"].endswith(shlex.join(flags))

    def test_7_for_what_could_not_be_verified(self, service: Service, holdfast: Inside) -> None:
        import pyrage

        recipient = pyrage.x25519.Identity.generate().to_public()
        encryption = f"encryption: {{recipients: [{recipient}]}}\n"
        (service.folder / "backup.yaml").write_text(SPEC + encryption)
        holdfast("backup", status=0)
        document = assert_contract(
            holdfast("verify", "--level", "readable", "--json", status=7), "verify"
        )
        assert {one["verdict"] for one in document["results"]} == {"COULD-NOT-VERIFY"}

    def test_130_when_interrupted(self, service: Service) -> None:
        slow = SPEC.replace('stop: "echo stop', 'stop: "touch waiting; sleep 60; echo stop')
        (service.folder / "backup.yaml").write_text(slow)
        before = service.observe()
        with service.program.start(
            "restore", "--source", "db", "--confirm", "db", "--json"
        ) as process:
            while not (service.folder / "waiting").exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate()
        answer = Answer(("restore",), process.returncode, stdout, stderr)
        assert answer.status == 130, str(answer)
        document = assert_contract(answer, "restore")
        assert document["status"] == "interrupted"
        assert document["error"]["kind"] == "interrupted"
        assert service.observe() == before
        assert service.log() == ["start"]
        assert service.leftovers() == []
