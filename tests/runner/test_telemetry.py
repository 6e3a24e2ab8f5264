"""Telemetry: memory, CPU time and energy of a worker, on real processes, on files and on a stand-in for NVML."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from fewmark.core import Case, Deployment, Workload
from fewmark.engines.measuring.policy import Policy
from fewmark.runner import Runner, RunSettings
from fewmark.runner.telemetry import Telemetry, Usage, nvml, processes, zeus
from fewmark.runner.telemetry.rapl import CpuEnergy

MIB = 2**20
CHILD = "x = bytearray(b'x' * 80 * 2**20); print('ready', flush=True); import time; time.sleep(600)"
PARENT = (
    f"import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {CHILD!r}]); "
    "x = bytearray(b'x' * 60 * 2**20)\nwhile True: pass"
)


@pytest.fixture
def busy_process():
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    yield process
    subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)
    process.communicate()


def test_a_process_is_watched_with_its_children(busy_process):
    with Telemetry(busy_process.pid) as telemetry:
        time.sleep(1.0)
    usage = telemetry.usage
    assert 140 * MIB < usage.peak_memory_bytes < 400 * MIB
    assert 0 < usage.cpus_busy < 2
    assert not telemetry.exceeded


def test_an_excess_is_told_once(busy_process):
    told = []
    with Telemetry(busy_process.pid, memory_limit_bytes=100 * MIB, on_excess=lambda: told.append(1)) as telemetry:
        time.sleep(1.0)
    assert telemetry.exceeded and told == [1]


def test_a_process_that_is_gone_leaves_everything_unknown(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with Telemetry(process.pid, powercap=tmp_path) as telemetry:
        pass
    assert (telemetry.usage.peak_memory_bytes, telemetry.usage.cpus_busy, telemetry.usage.energy_j) == (
        None,
        None,
        None,
    )


def zone(root, folder, name, energy, limit=1000_000_000):
    place = root / folder
    place.mkdir(exist_ok=True)
    for file, text in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", limit)):
        (place / file).write_text(f"{text}\n")


def test_energy_of_processors_adds_up_packages_and_memory_and_survives_a_counter_that_runs_over(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)  # within the package
    zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 999_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)  # the same counter once more
    energy = CpuEnergy(tmp_path)
    assert energy.read() == 0
    zone(tmp_path, "intel-rapl:0", "package-0", 8_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 2_500_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 8_000_000)
    assert energy.read() == pytest.approx(3 + 0.5 + 2)
    assert energy.read() == pytest.approx(3 + 0.5 + 2)


def test_a_counter_of_the_whole_platform_is_taken_alone(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    zone(tmp_path, "intel-rapl:1", "psys", 0)
    energy = CpuEnergy(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 7_000_000)
    zone(tmp_path, "intel-rapl:1", "psys", 9_000_000)
    assert energy.read() == pytest.approx(9)


def test_energy_that_nobody_tells_is_unknown_and_not_zero(tmp_path):
    assert CpuEnergy(tmp_path).read() is None
    zone(tmp_path, "intel-rapl:0", "package-0", "not for you")
    assert CpuEnergy(tmp_path).read() is None
    assert Usage().energy_j is None and Usage().facts() == {}
    both = Usage(cpu_energy_j=2.0, accelerator_energy_j=3.0)
    assert both.energy_j == 5 and both.facts()["energy_of"] == "cpu+accelerator"


class Nvml(SimpleNamespace):
    """Two devices of which the second has no counter of energy."""

    def __init__(self):
        super().__init__(
            energy_mj={0: 1000},
            used={0: 5, 1: 6},
            nvmlInit=lambda: None,
            nvmlShutdown=lambda: None,
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-b": 1}[uuid],
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: self.energy_mj[handle],
            nvmlDeviceGetPowerUsage=lambda handle: 100_000,
            nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=self.used[handle]),
            nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=50 + 50 * handle),
        )


@pytest.fixture
def devices(monkeypatch):
    fake = Nvml()
    monkeypatch.setattr(nvml, "library", lambda: fake)
    return fake


def test_accelerators_tell_energy_memory_and_use(devices):
    watched = nvml.Devices({"CUDA_VISIBLE_DEVICES": "0"})
    watched.sample()
    devices.used[0], devices.energy_mj[0] = 50, 3500
    watched.sample()
    devices.used[0] = 7
    watched.sample()
    assert (watched.energy_j(), watched.peak_memory_bytes, watched.utilisation()) == (2.5, 50, 0.5)
    watched.close()


def test_power_stands_in_for_a_counter_that_is_missing(devices, monkeypatch):
    moments = iter([10.0, 12.0, 15.0])
    monkeypatch.setattr(nvml, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    watched = nvml.Devices({"CUDA_VISIBLE_DEVICES": "GPU-b"})
    watched.sample()
    watched.sample()
    assert watched.energy_j() == pytest.approx(500)  # 100 W for 5 s


def test_all_accelerators_count_where_none_is_chosen_and_none_where_all_are_hidden(devices):
    every = nvml.Devices({})
    every.sample()
    assert every.peak_memory_bytes == 11 and every.utilisation() == 0.75
    hidden = nvml.Devices({"CUDA_VISIBLE_DEVICES": ""})
    hidden.sample()
    assert (hidden.energy_j(), hidden.peak_memory_bytes, hidden.utilisation()) == (None, None, None)


def test_without_the_library_nothing_is_known(monkeypatch):
    monkeypatch.setattr(nvml, "library", lambda: None)
    watched = nvml.Devices({})
    watched.sample()
    assert (watched.energy_j(), watched.peak_memory_bytes) == (None, None)


def test_where_the_kernel_lists_no_children_psutil_finds_them(busy_process, tmp_path):
    assert set(processes.tree(busy_process.pid, proc=tmp_path)) == set(processes.tree(busy_process.pid))
    assert len(processes.tree(busy_process.pid)) == 2


class Zeus:
    """A monitor as zeus 0.16 has it, with the joules that it will tell."""

    def __init__(self, gpu, cpu=None, dram=None):
        self.told, self.open = SimpleNamespace(gpu_energy=gpu, cpu_energy=cpu, dram_energy=dram), []

    def begin_window(self, key, sync_execution=True):
        assert not sync_execution  # it would import torch into the parent
        self.open.append(key)

    def end_window(self, key, sync_execution=True):
        self.open.remove(key)
        return self.told


@pytest.mark.parametrize(
    ("told", "joules"),
    [
        (Zeus({0: 3.0, 1: 4.0}, {0: 2.0}, {0: 0.5}), (2.5, 7.0)),
        (Zeus({}), (None, None)),  # no meter: its total is 0
        (Zeus({0: 0.0, 1: 4.0}, {0: 2.0}), (2.0, None)),  # too short for the counter of one
    ],
)
def test_energy_by_zeus_where_it_tells(monkeypatch, told, joules):
    monkeypatch.setattr(zeus, "monitor", lambda: told)
    assert zeus.Window().end() == joules and not told.open


def test_zeus_goes_before_our_own_readers_and_a_broken_one_costs_nothing(devices, monkeypatch, tmp_path):
    monkeypatch.setattr(zeus, "monitor", lambda: Zeus({0: 3.0}))
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    devices.energy_mj[1] = 0
    with Telemetry(process.pid, powercap=tmp_path) as telemetry:
        zone(tmp_path, "intel-rapl:0", "package-0", 7_000_000)
    assert (telemetry.usage.cpu_energy_j, telemetry.usage.accelerator_energy_j) == (2.0, 3.0)
    monkeypatch.setattr(zeus, "monitor", lambda: SimpleNamespace())
    with Telemetry(process.pid, powercap=tmp_path) as telemetry:
        pass
    assert telemetry.usage.accelerator_energy_j == 0.0
    process.communicate()


@pytest.mark.usefixtures("plugin")
def test_a_measurement_carries_what_was_used(store, devices):
    case = Case(Deployment("dummy", "toy"), Workload(8, 2, batch_size=1))
    devices.energy_mj[1] = 0
    (measured,) = Runner(store, RunSettings(policy=Policy()), quiet=True).run([case]).measurements
    assert measured.extra["peak_memory_bytes"] > 5 * MIB
    assert measured.extra["accelerator_peak_memory_bytes"] == 11
    assert measured.cost.energy_j is not None and "accelerator" in measured.extra["energy_of"]
    (again,) = store.measurements()
    assert again.cost.energy_j == measured.cost.energy_j
