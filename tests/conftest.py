"""What holds for every test."""

import os

os.environ["FEWMARK_CACHE"] = "off"  # no test finds what another has fitted, or writes outside its own folder
