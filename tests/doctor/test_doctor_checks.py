"""The doctor's checks on machines that are drawn as files: what is seen, and what is said of it."""

import sys

import pytest

from fewmark.engines.doctor import CHECKS, System, cpu, deployment_findings, examine, gpu, memory, probe, software

H100 = (
    "{index}, NVIDIA H100 80GB HBM3, 550.54.15, {busy}, {used}, 81559, {heat}, {power}, {limit}, 700.00, 1980, 1980, "
    "{reasons}, {persistence}, Disabled\n"
)
QUIET = {"busy": 0, "used": 4, "heat": 32, "power": "70.51", "limit": "700.00", "persistence": "Enabled"}
MEMINFO = (
    "MemTotal: 1000000 kB\nMemFree: 5 kB\nMemAvailable: {free} kB\nCached: 300000 kB\n"
    "SwapTotal: {swap} kB\nSwapFree: 0 kB"
)


@pytest.fixture
def machine(tmp_path):
    """Makes a machine of files, CPUs, environment variables and one command's output."""

    def make(files=(), cpus=range(4), environment=(), says=None):
        for path, text in dict(files).items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return System(tmp_path, dict(environment), lambda arguments: says, frozenset(cpus))

    return make


def gpu_lines(*devices):
    return "".join(
        H100.format(**{"index": i, "reasons": "0x0000000000000001", **QUIET, **d}) for i, d in enumerate(devices)
    )


CASES = [
    (cpu.load, {"/proc/loadavg": "0.40 9 9 1/2 3\n"}, "ok", "load average 0.4 on 4 CPUs"),
    (cpu.load, {"/proc/loadavg": "1.40 0 0 1/2 3"}, "warn", "1.4"),
    (cpu.load, {"/proc/loadavg": "17 0 0 1/2 3"}, "bad", "17"),
    (cpu.load, {}, "unknown", "no load average"),
    (cpu.governor, {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n"}, "ok", "performance"),
    (
        cpu.governor,
        {
            f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor": ("powersave", "performance")[i > 2]
            for i in range(4)
        },
        "warn",
        "powersave on 3 CPUs",
    ),
    (cpu.governor, {}, "unknown", "virtual"),
    (cpu.throttling, {"/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "7"}, "warn", "7 thermal"),
    (cpu.throttling, {"/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0"}, "ok", "0 thermal"),
    (
        cpu.pinning,
        {
            "/sys/devices/system/cpu/online": "0-7",
            **{f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i},{i + 4}" for i in range(4)},
        },
        "warn",
        "hyper-thread of 4",
    ),
    (
        cpu.pinning,
        {
            "/sys/devices/system/cpu/online": "0-7",
            **{
                f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i // 2 * 2}-{i // 2 * 2 + 1}"
                for i in range(4)
            },
        },
        "ok",
        "4 of 8",
    ),
    (
        cpu.numa,
        {"/sys/devices/system/node/node0/cpulist": "0-1\n", "/sys/devices/system/node/node1/cpulist": "2-3"},
        "warn",
        "2 of 2",
    ),
    (
        cpu.numa,
        {"/sys/devices/system/node/node0/cpulist": "0-3\n", "/sys/devices/system/node/node1/cpulist": "4-7"},
        "ok",
        "1 of 2",
    ),
    (cpu.steal, {"/proc/stat": "cpu 900 0 0 5000 0 0 0 100 0 0\ncpu0 1"}, "warn", "10.0%"),
    (cpu.steal, {"/proc/stat": "cpu 900 0 0 5000 0 0 0 1 0 0\ncpu0 1"}, "ok", "0.1%"),
    (cpu.clock, {"/sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n"}, "warn", "hpet"),
    (cpu.clock, {"/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n"}, "ok", "tsc"),
    (memory.memory, {"/proc/meminfo": MEMINFO.format(free=50_000, swap=0)}, "warn", "of 1.0 GiB"),
    (memory.memory, {"/proc/meminfo": MEMINFO.format(free=500_000, swap=0)}, "ok", "0.5 of"),
    (memory.swap, {"/proc/meminfo": MEMINFO.format(free=1, swap=1_048_576)}, "warn", "1.0 of 1.0 GiB of swap"),
    (memory.swap, {"/proc/meminfo": MEMINFO.format(free=1, swap=0)}, "ok", "0.0 of"),
    (memory.page_cache, {"/proc/meminfo": MEMINFO.format(free=1, swap=0)}, "ok", "0.3 GiB"),
]


@pytest.mark.parametrize(("check", "files", "verdict", "says"), CASES)
def test_what_a_check_says_of_a_machine(machine, check, files, verdict, says):
    finding = check(machine(files))
    assert (finding.verdict, says in finding.seen) == (verdict, True), finding
    assert bool(finding.advice) == (verdict in ("warn", "bad"))


V2 = {"/proc/self/cgroup": "0::/user.slice/run\n", "/sys/fs/cgroup/user.slice/run/cpu.max": "150000 100000\n"}
V1 = {
    "/proc/self/cgroup": "4:memory:/pod/a\n1:cpu,cpuacct:/pod/a\n",
    "/sys/fs/cgroup/cpu/pod/a/cpu.cfs_quota_us": "150000\n",
    "/sys/fs/cgroup/cpu/pod/a/cpu.cfs_period_us": "100000\n",
}
IN_CONTAINER = {"/proc/self/cgroup": "0::/elsewhere\n", "/sys/fs/cgroup/cpu.max": "150000 100000"}


@pytest.mark.parametrize("files", [V2, V1, IN_CONTAINER])
def test_a_limit_on_cpu_time_is_found_in_both_versions_of_cgroups(machine, files):
    folder = next(path for path in files if "cpu.max" in path or "quota" in path).rpartition("/")[0]
    assert machine(files).cpu_quota() == 1.5
    held = machine({**files, f"{folder}/cpu.stat": "nr_periods 1000\nnr_throttled 300\nthrottled_usec 5\n"})
    assert cpu.quota(held).verdict == "warn" and "300 of 1000" in cpu.quota(held).seen
    assert cpu.threads(held).advice == "export OMP_NUM_THREADS=1"


@pytest.mark.parametrize(
    "files",
    [
        {"/sys/fs/cgroup/memory.max": "536870912\n"},
        {"/proc/self/cgroup": "4:memory:/a\n", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "536870912"},
    ],
)
def test_a_limit_on_memory_is_found_and_told(machine, files):
    found = machine({**files, "/proc/meminfo": MEMINFO.format(free=900_000, swap=0)})
    assert found.memory_limit_bytes() == 2**29 and "container limit 0.5 GiB" in memory.memory(found).seen


def test_no_limit_is_none_and_not_a_number(machine):
    unlimited = machine({"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"})
    assert unlimited.cpu_quota() is None and unlimited.memory_limit_bytes() is None
    first = machine({"/sys/fs/cgroup/memory.max": "9223372036854771712", "/sys/fs/cgroup/cpu.max": ""})
    assert first.memory_limit_bytes() is None


@pytest.mark.parametrize(("given", "verdict"), [("4", "ok"), ("5", "bad"), ("", "ok")])
def test_more_threads_than_room(machine, given, verdict):
    assert cpu.threads(machine(environment={"OMP_NUM_THREADS": given})).verdict == verdict


@pytest.mark.parametrize(
    ("devices", "name", "verdict", "says"),
    [
        ([{}, {}], "gpu", "ok", "1 (NVIDIA H100 80GB HBM3); driver 550.54.15"),
        ([{}, {}], "gpu-load", "ok", "idle"),
        ([{}, {"busy": 97}], "gpu-load", "bad", "1 (NVIDIA H100 80GB HBM3) 97% busy"),
        ([{"used": 40_000}], "gpu-load", "warn", "40000 MiB"),
        ([{}], "gpu-throttling", "ok", "no clock"),
        ([{"reasons": "0x0000000000000004"}], "gpu-throttling", "warn", "power limit"),
        ([{"reasons": "0x0000000000000048"}], "gpu-throttling", "bad", "hardware slowdown and hardware heat limit"),
        ([{"heat": 84}], "gpu-throttling", "warn", "84 °C"),
        ([{"limit": "500.00"}], "gpu-clocks", "warn", "500 of 700 W"),
        ([{"reasons": "0x0000000000000002"}], "gpu-clocks", "warn", "set by an application"),
        ([{"persistence": "Disabled"}], "gpu-persistence", "warn", "off on 0"),
        (
            [{"busy": "[N/A]", "power": "[N/A]", "limit": "[Not Supported]", "reasons": "[N/A]"}],
            "gpu-load",
            "ok",
            "idle",
        ),
    ],
)
def test_what_is_said_of_accelerators(machine, devices, name, verdict, says):
    found = {finding.name: finding for finding in gpu.gpus(machine(says=gpu_lines(*devices)))}
    assert found[name].verdict == verdict and says in found[name].seen, found[name]


@pytest.mark.parametrize("says", [None, "", "No devices were found", "a, b\n"])
def test_no_accelerator_is_unknown(machine, says):
    (finding,) = gpu.gpus(machine(says=says))
    assert finding.verdict == "unknown"


def test_settings_and_builds_that_slow_everything_down(machine):
    slow = {"CUDA_LAUNCH_BLOCKING": "1", "LD_PRELOAD": "/usr/lib/libasan.so.8", "PYTHONMALLOC": "malloc"}
    finding = software.debug_settings(machine(environment=slow))
    assert finding.verdict == "bad" and finding.advice == "unset CUDA_LAUNCH_BLOCKING LD_PRELOAD"
    assert software.debug_settings(machine(environment={"CUDA_LAUNCH_BLOCKING": "0"})).verdict == "ok"


@pytest.mark.parametrize(("line", "verdict"), [("debug = True", "bad"), ("debug: bool = False", "ok")])
def test_a_debug_build_of_torch_is_told_from_its_file(machine, tmp_path, monkeypatch, line, verdict):
    package = tmp_path / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "version.py").write_text(f"__version__ = '2'\n{line}\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(str(package.parent))
    assert software.debug_build(machine()).verdict == verdict


def test_an_odd_machine_does_not_stop_the_doctor(machine):
    odd = machine({"/proc/loadavg": "many", "/proc/stat": "cpu a b c d e f g h i"})
    findings = {finding.name: finding for finding in examine(odd)}
    assert findings["load"].verdict == "unknown" and "ValueError" in findings["load"].seen
    assert findings["steal"].verdict == "unknown" and len(findings) == len(CHECKS)


@pytest.mark.parametrize(
    ("scatter", "lost", "verdict"), [(0.01, 0.0, "ok"), (0.1, 0.0, "warn"), (0.01, 0.1, "warn"), (0.5, 0.0, "bad")]
)
def test_the_verdict_on_noise(scatter, lost, verdict):
    finding = probe.judge({"scatter": scatter, "lost_fraction": lost, "steal_s": None, "rounds": 200})
    assert finding.verdict == verdict and bool(finding.advice) == (verdict != "ok")


def test_the_probe_measures_what_it_says():
    finding, facts = probe.noise(duration_s=0.2)
    assert finding.name == "noise" and facts["rounds"] >= 10 and facts["scatter"] >= 0 <= facts["lost_fraction"] <= 1


@pytest.mark.parametrize(
    ("deployment", "engine", "host", "names"),
    [
        ({}, {"threads": 8}, {"cpu_usable": 8, "cpu_limit": 2.0}, ["too-many-threads"]),
        ({}, {"threads": 2}, {"cpu_usable": 8, "cpu_limit": 2.0}, []),
        ({"engine_options": {"enable_prefix_caching": True}}, {}, {}, ["prefix-caching"]),
        ({}, {"prefix_caching": False}, {}, []),
        ({"placement": "disk"}, {}, {}, ["page-cache-hot"]),
        ({"placement": {"weights": "disk"}}, {"page_cache": "dropped"}, {}, []),
        ({"placement": "disk"}, {"weights_bytes": 9}, {"memory_available_bytes": 8}, []),
        ({"placement": "cpu"}, {}, {}, []),
    ],
)
def test_what_speaks_against_a_loaded_deployment(deployment, engine, host, names):
    assert [finding.name for finding in deployment_findings(deployment, engine, host)] == names
