"""What holds for every test: no cache of fitted models, and no clocks in hypothesis, since machines may be busy."""

import os

from hypothesis import HealthCheck, settings

os.environ["FEWMARK_CACHE"] = "off"  # no test finds what another has fitted, or writes outside its own folder
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
