"""What the parent records of a run: fewmark's version, the commit, the command's surroundings."""

from __future__ import annotations

import subprocess

from fewmark import __version__
from fewmark.core.json_types import Json


def run_facts() -> dict[str, Json]:
    """fewmark's version, and the commit and state of the repository that the run is started in, if it is one."""
    commit = _git("rev-parse", "HEAD")
    facts: dict[str, Json] = {"fewmark": __version__}
    if commit:
        facts |= {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    return facts


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
