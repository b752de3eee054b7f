"""Settings of every process that pytest starts, notebooks included: digits must repeat."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BNLAB_KERNELS", "0")  # where numba is missing, there are none


FIRST = (
    "test_types.py",
    "test_site.py",
)  # the longest, and what builds the site if it is not there
LAST = ("test_site_pages.py",)  # in small pieces, which let the processes end together


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Hand out the longest files first."""
    items.sort(key=lambda item: (item.path.name in LAST) - (item.path.name in FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out a file as a whole, for its fixtures, but the pages of the site one by one."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrPage(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            return file + test[test.find("[") :] if file.endswith(LAST) else file

    config.option.loadscopereorder = False
    return ByFileOrPage(config, log)
