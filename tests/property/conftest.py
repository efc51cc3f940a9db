"""Property tests judge truth, not speed: no deadline, so that a busy machine fails none of them."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("tracekit", deadline=None)
settings.register_profile(
    "fuzz", deadline=None, max_examples=1000, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tracekit"))
