#!/usr/bin/env bash
# zeus 0.16.0
#
# One would guess: where no meter can be read, the energy of a window is None or an error; and installing it adds `zeus`.
# What happens: `total_energy` is the sum over GPUs alone, so it is 0 without a GPU, also where processors have told
# theirs; and the wheel puts packages named `tests`, `examples` and `docs` beside `zeus` into site-packages, where
# `import tests` then finds them from any folder that has no `tests` of its own.
#
# Output seen:
#   zeus 0.16.0: gpu_energy={} total_energy=0
#   beside zeus in site-packages: docs examples tests
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check zeus==0.16.0
cd "$work"
CUDA_VISIBLE_DEVICES="" "$work/venv/bin/python" - <<'PY'
import importlib.metadata as metadata
import pathlib

import zeus
from zeus.monitor import ZeusMonitor

monitor = ZeusMonitor(gpu_indices=[])
monitor.begin_window("w", sync_execution=False)
told = monitor.end_window("w", sync_execution=False)
print(f"zeus {metadata.version('zeus')}: gpu_energy={told.gpu_energy} total_energy={told.total_energy}")
beside = sorted(
    path.name for path in pathlib.Path(zeus.__file__).parent.parent.iterdir() if path.name in ("docs", "examples", "tests")
)
print("beside zeus in site-packages:", *beside)
assert told.gpu_energy == {} and told.total_energy == 0
assert beside == ["docs", "examples", "tests"]
PY
