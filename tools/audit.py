"""Looks the locked packages up among known vulnerabilities, with pip-audit. Without a network it says so and passes.

python tools/audit.py
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = ["-m", "pip_audit", "--requirement", "requirements.lock", "--no-deps", "--disable-pip", "--format", "json",
           "--progress-spinner", "off", "--timeout", "15"]  # fmt: skip


def main() -> int:
    done = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, timeout=600, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"not audited: {reason[:300]}")
        return 0
    bad = [one for one in found if one.get("vulns")]
    for one in bad:
        print(f"{one['name']} {one['version']}: {', '.join(vuln['id'] for vuln in one['vulns'])}")
    print(f"{len(found)} packages, {len(bad)} with known vulnerabilities")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
