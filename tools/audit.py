"""Looks the locked packages up among known vulnerabilities, with pip-audit.

python tools/audit.py

A package that could not be looked up is no package without vulnerabilities: it is counted and said. With AUDIT set, as
in CI where there is a network, that fails; without, it passes with a message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

COMMAND = ["-m", "pip_audit", "--requirement", "requirements.lock", "--no-deps", "--disable-pip", "--format", "json",
           "--progress-spinner", "off", "--timeout", "15"]  # fmt: skip


def main() -> int:
    done = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, timeout=600, check=False)
    unknown = 1 if os.environ.get("AUDIT") else 0
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"not audited: {reason[:300]}")
        return unknown
    looked_up = [one for one in found if "skip_reason" not in one]
    bad = [one for one in looked_up if one.get("vulns")]
    for one in bad:
        print(f"{one['name']} {one['version']}: {', '.join(vuln['id'] for vuln in one['vulns'])}")
    print(f"{len(looked_up)} of {len(found)} packages looked up, {len(bad)} with known vulnerabilities")
    if bad:
        return 1
    if len(looked_up) == len(found):
        return 0
    first = next(one for one in found if "skip_reason" in one)
    print(f"not audited: {len(found) - len(looked_up)} packages, as {first['name']}: {first['skip_reason'][:200]}")
    return unknown


if __name__ == "__main__":
    sys.exit(main())
