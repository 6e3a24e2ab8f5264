"""What holds for every test: no cache of fitted models, no clocks in hypothesis, since machines may be busy, and one
thread a process, since as many tests run side by side as there are cores."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before anything imports a library that reads them

from hypothesis import HealthCheck, settings  # noqa: E402

os.environ["FEWMARK_CACHE"] = "off"  # no test finds what another has fitted, or writes outside its own folder
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
