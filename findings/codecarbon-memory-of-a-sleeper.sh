#!/usr/bin/env bash
# codecarbon 3.3.2
#
# One would guess: with tracking_mode="process" the energy of a window is that of the process, so one that sleeps has
# (almost) none and one that computes has all.
# What happens: memory's power is not measured: it is guessed from how many DIMMs would hold the process's own resident
# memory, two at least, at 5 W each on x86 (3 W in all on ARM). A process of some tens of MB that sleeps is charged 10 W,
# and so is each of two side by side; without a meter for the processor that constant is most of the total, and six
# seconds asleep cost as much as six seconds of computing.
#
# Output seen (a virtual machine of two x86 cores without meters):
#   codecarbon 3.3.2, asleep: cpu 0.7 W, ram 10.0 W, ram's share of the energy 99%
#   codecarbon 3.3.2, computing: cpu 2.0 W, ram 10.0 W, ram's share of the energy 84%
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check codecarbon==3.3.2
cd "$work"
HOME="$work" "$work/venv/bin/python" - <<'PY'
import importlib.metadata as metadata
import platform
import time

from codecarbon import OfflineEmissionsTracker

version = metadata.version("codecarbon")


def compute() -> None:
    end = time.monotonic() + 6
    while time.monotonic() < end:
        pass


watts = {}
for name, work in (("asleep", lambda: time.sleep(6)), ("computing", compute)):
    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA", tracking_mode="process", measure_power_secs=1, save_to_file=False, log_level="critical",
        allow_multiple_runs=True,
    )
    tracker.start()
    work()
    tracker.stop()
    told = tracker.final_emissions_data
    watts[name] = told.ram_power
    share = told.ram_energy / told.energy_consumed
    print(
        f"codecarbon {version}, {name}: cpu {told.cpu_power:.1f} W, ram {told.ram_power:.1f} W, "
        f"ram's share of the energy {share:.0%}"
    )
expected = 3.0 if platform.machine() in ("aarch64", "arm64") else 10.0
assert watts == {"asleep": expected, "computing": expected}, watts
PY
