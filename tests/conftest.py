"""One thread a test process: the suite runs one process a core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
