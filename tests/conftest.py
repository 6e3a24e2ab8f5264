<<<<<<< HEAD
"""What holds for every test."""

import os

os.environ["FEWMARK_CACHE"] = "off"  # no test finds what another has fitted, or writes outside its own folder
=======
"""What every test shares: hypothesis without clocks, since the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
>>>>>>> 03135cd (Read options that are lists alike everywhere)
