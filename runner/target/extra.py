"""What some kinds of targets need besides, and how one gets it."""

from __future__ import annotations

import os
import shlex
import sysconfig
from pathlib import Path


def install_line(extra: str) -> str:
    """What installs it where this program is installed: another pip would bring it elsewhere."""
    pip = Path(sysconfig.get_path("scripts")) / "pip"
    sudo = "" if os.access(sysconfig.get_path("purelib"), os.W_OK) else "sudo "
    return f"{sudo}{shlex.quote(str(pip)) if pip.exists() else 'pip'} install 'holdfast[{extra}]'"
