"""What a schema cannot say: names that must exist, questions that must be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.builders import SMALL, problems_of, told


@pytest.mark.parametrize(
    ("declared", "place", "said"),
    [
        ("policies: {n: {sources: [dv]}}", "policies.n.sources[0]", "Did you mean `db`"),
        ("policies: {n: {targets: [disc]}}", "policies.n.targets[0]", "Did you mean `disk`"),
        ("objectives: {bd: {rpo: 1h}}", "objectives.bd", "Did you mean `db`"),
        ("objectives: {xyz: {rpo: 1h}}", "objectives.xyz", "Known: system, db, config"),
        ("services: {bot: {sources: [dv]}}", "services.bot.sources[0]", "Did you mean `db`"),
        ("services: {db: {sources: [db]}}", "services.db", "is a source too"),
        ("checks: {conf: [{file: a}]}", "checks.conf", "Did you mean `config`"),
        ("checks: {db: [{name: a}]}", "checks.db[0]", "http, tcp, sql"),
        ("checks: {db: [{sql: a, run: b}]}", "checks.db[0].run", "stand together"),
        ("recovery: [{restore: dv}]", "recovery[0].restore", "Did you mean `db`"),
        ("recovery: [{restore: [db, dv]}]", "recovery[0].restore[1]", "Did you mean `db`"),
        ("recovery: [{restore: db}, {restore: [db]}]", "recovery[1].restore[0]", "recovery[0]"),
        ("recovery: [{name: a}]", "recovery[0]", "restore, run, probe, manual"),
        ("recovery: [{run: a, manual: b}]", "recovery[0].manual", "stand together"),
        ("recovery: [{run: a, name: x}, {run: b, name: x}]", "recovery[1].name", "taken"),
        ("recovery: [{manual: a, working_dir: b}]", "recovery[0].working_dir", "run or probe"),
        ("recovery: [{restore: db, drill: same}]", "recovery[0].drill", "run or probe"),
        ("recovery: [{restore: db, when: failure}]", "recovery[0].when", "run or probe"),
        ("recovery: [{manual: a, retries: 2}]", "recovery[0].retries", "restore or run"),
        ("recovery: [{probe: {within: 5m}}]", "recovery[0].probe", "http, tcp, sql"),
        ("recovery: [{probe: {sql: select 1}}]", "recovery[0].probe", "source: NAME"),
        ("recovery: [{probe: {sql: a, source: dv}}]", "recovery[0].probe.source", "`db`"),
        ("recovery: [{probe: {redis: get a, source: db}}]", "recovery[0].probe.redis", "it sql"),
        ("checks: {config: [{sql: select 1}]}", "checks.config[0].sql", "ask this of db"),
        ("checks: {db: [{file: data.db}]}", "checks.db[0].file", "no folder"),
        ("checks: {db: [{redis: get a}]}", "checks.db[0].redis", "ask this of a database"),
        ("policies: {n: {timeout: 0s}}", "policies.n.timeout", "gives up at once"),
        ("recovery: [{run: a, timeout: 0m0.0s}]", "recovery[0].timeout", "gives up at once"),
        ("policies: {n: {keep: {within: 0d}}}", "policies.n.keep.within", "kept for ever"),
        ('recovery: [{probe: {tcp: "a:70000"}}]', "recovery[0].probe.tcp", "1 to 65535"),
        ('checks: {db: [{tcp: "a:0"}]}', "checks.db[0].tcp", "1 to 65535"),
        ("services: {bot: {sources: [db], env: {1A: b}}}", "services.bot.env.1A", "letters"),
        ("encryption: {recipients: [age1typo]}", "encryption.recipients[0]", "no public key"),
        ("encryption: {recipients: [ssh-rsa AA]}", "encryption.recipients[0]", "no public key"),
        ("timezone: Europe/Berln", "timezone", "Europe/Berlin"),
        ("timezone: ../../etc/passwd", "timezone", "not known"),
        ("policies: {n: {schedule: hourly}}", "policies.n.schedule", "cron"),
        ("policies: {n: {schedule: 0 2 31 2 *}}", "policies.n.schedule", "cron"),
    ],
)
def test_what_is_told(tmp_path: Path, declared: str, place: str, said: str) -> None:
    assert said in told(problems_of(tmp_path, SMALL + declared + "\n"))[place]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{type: s3, bucket: a}", "2 to 63 letters"),
        ("{type: gcs, bucket: a}", "3 to 222 small letters"),
        ("{type: azure, container: a}", "3 to 63 small letters"),
    ],
)
def test_of_a_name_that_cannot_be_it_is_told_which_can(
    tmp_path: Path, target: str, said: str
) -> None:
    text = SMALL.replace("{type: local, path: backups}", target)
    (message,) = told(problems_of(tmp_path, text)).values()
    assert said in message


@pytest.mark.parametrize(
    "declared",
    [
        "objectives: {system: {rto: 1h}, bot: {rto: 1h}}\nservices: {bot: {sources: [db]}}",
        "recovery: [{restore: [db, config]}, {run: a, drill: same}, {manual: b}]",
        "recovery: [{restore: db, when: success, timeout: 1h, retries: 2, expected: 5m}]",
        "recovery: [{restore: [db]}, {probe: {sql: select 1, source: db, at_least: 1.5}}]",
        "checks: {db: [{name: any words at all, sql: select 1, expect: yes}]}",
        'recovery: [{probe: {tcp: "a:65535"}}, {probe: {tcp: "[::1]:5432"}}]',
        'policies: {n: {schedule: "@daily"}, m: {schedule: 6h}, o: {schedule: "0 0 29 2 *"}}',
    ],
)
def test_what_is_allowed(tmp_path: Path, declared: str) -> None:
    assert problems_of(tmp_path, SMALL + declared + "\n") == ()


def test_options_that_exclude_each_other_are_told(tmp_path: Path) -> None:
    main = "  main: {type: postgres, dbname: quay, schemas: [a], tables: [b]}\ntargets:"
    problems = problems_of(tmp_path, SMALL.replace("targets:", main))
    assert "`schemas` and `tables` exclude each other" in told(problems)["sources.main"]


@pytest.mark.parametrize("name", ["Bad", "a b", "-a", "system", "latest", "default", "x" * 64, "é"])
def test_a_name_that_cannot_be_one_is_told_at_its_key(tmp_path: Path, name: str) -> None:
    problems = problems_of(tmp_path, SMALL.replace("  disk:", f'  "{name}":'))
    assert [(one.path, one.line, one.column) for one in problems] == [(f"targets.{name}", 7, 3)]
