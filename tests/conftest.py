"""Property tests repeat exactly."""

from hypothesis import settings

settings.register_profile("bnlab", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("bnlab")
