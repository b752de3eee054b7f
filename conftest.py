"""Settings of every process that pytest starts, notebooks included: digits must repeat."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BNLAB_KERNELS", "0")  # where numba is missing, there are none
