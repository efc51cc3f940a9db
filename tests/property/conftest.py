"""Property tests judge truth, not speed: no deadline, so that a busy machine fails none of them."""

from hypothesis import settings

settings.register_profile("tracekit", deadline=None)
settings.load_profile("tracekit")
