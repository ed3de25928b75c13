"""The lines of bash that read an env file as the program does: nothing in it is expanded or run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

# Each value ends as one word in single quotes. What the environment has already wins.
READER = r"""
load_env() {
  if ! test -e "$1"; then return; fi
  eval "$(sed 's/\r$//' "$1" | awk '
    function put(c) { word = word (c == "\047" ? "\047\\\047\047" : c) }
    function end() { print word "\047"; quote = "" }
    !quote {
      if (/^[ \t]*(#|$)/) next
      sub(/^[ \t]*(export[ \t]+)?/, "")
      name = $0
      sub(/[ \t]*=.*/, "", name)
      if (name !~ /^[A-Za-z_][A-Za-z0-9_]*$/) next
      sub(/^[^=]*=[ \t]*/, "")
      word = "test \"${" name "+set}\" || export " name "=\047"
      quote = substr($0, 1, 1)
      if (quote != "\"" && quote != "\047") {
        sub(/(^|[ \t])#.*/, "")
        sub(/[ \t]+$/, "")
        for (i = 1; i <= length($0); i++) put(substr($0, i, 1))
        end()
        next
      }
      $0 = substr($0, 2)
    }
    {
      for (i = 1; i <= length($0); i++) {
        c = substr($0, i, 1)
        if (c == quote) { end(); next }
        if (c == "\\" && quote == "\"") {
          c = substr($0, ++i, 1)
          c = c == "n" ? "\n" : c == "t" ? "\t" : c == "r" ? "\r" : c == "" ? "\\" : c
        }
        put(c)
      }
      put("\n")
    }
  ')"
}
""".strip().split("\n")


def load_lines(files: Sequence[Path]) -> list[str]:
    """Read the files; a later one wins over an earlier one."""
    return [f"load_env {shlex.quote(str(file))}" for file in reversed(files)]
