"""The built wheel, installed into an empty environment, works anywhere."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from runner import __version__
from tests.tools import ROOT, Answer, run

SPEC = """version: 1
project: quaybot
sources:
  config: {type: files, paths: [config]}
targets:
  disk: {type: local, path: backups}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `holdfast` program of a virtual environment that holds nothing but the wheel."""
    folder = tmp_path_factory.mktemp("package")
    # The index and its settings are the caller's, so this is no clean environment.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("holdfast-*.whl")
    venv.create(folder / "empty", with_pip=True)
    pip = [str(folder / "empty/bin/python"), "-m", "pip", "install", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, cwd=folder)
    return folder / "empty/bin/holdfast"


@pytest.mark.slow
def test_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert __version__ in run(installed, "--version", folder=tmp_path).stdout


@pytest.mark.slow
def test_finds_its_schemas(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "backup.yaml").write_text(SPEC)
    run(installed, "validate", folder=tmp_path)


@pytest.mark.slow
def test_backs_up_and_restores(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "backup.yaml").write_text(SPEC)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "bot.toml").write_text("prefix = '!'\n")

    def holdfast(*arguments: str) -> Answer:
        return run(installed, *arguments, folder=tmp_path)

    holdfast("backup")
    holdfast("restore", "--source", "config", "--to", "elsewhere")
    restored = (tmp_path / "elsewhere").rglob("bot.toml")
    assert [path.read_text() for path in restored] == ["prefix = '!'\n"]
