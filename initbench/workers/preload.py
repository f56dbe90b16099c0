"""What the fork server imports before it forks the first worker; it computes nothing.

Imports make no garbage but much to look through: garbage collection is off until they are done.
"""

import gc

gc.disable()

import initbench.training.job  # noqa: E402, F401 - imported here so that no worker has to
from initbench.question import catalog  # noqa: E402
from initbench.results import provenance  # noqa: E402

for kind in catalog.KINDS:
    catalog.entries(kind)
provenance.environment()
gc.freeze()
gc.enable()
