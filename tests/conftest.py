"""Settings every test shares: one thread, and property tests that repeat exactly."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("bnlab", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("bnlab")
