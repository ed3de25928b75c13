"""The tutorial, typed exactly as it stands, ends well."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.tools import ROOT, require_program, run

BLOCK = re.compile(r"^```(sh|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_every_line_of_the_tutorial_works(tmp_path: Path) -> None:
    require_program("sqlite3")
    script = [f"PATH={Path(sys.executable).parent}:$PATH"]
    for language, block in BLOCK.findall((ROOT / "docs/tutorial.md").read_text()):
        is_spec = language == "yaml"
        script.append(f"cat > backup.yaml <<'END'\n{block}END\n" if is_spec else block)
    done = run("bash", "-e", "-c", "\n".join(script), folder=tmp_path)
    assert "All is well." in done.stdout
    assert (tmp_path / "quaybot" / "data" / "quaybot.db").exists()
