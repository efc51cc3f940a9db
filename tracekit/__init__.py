"""tracekit: where the time of each unit of work went, from the kernel up."""

__version__ = "0.1.0"
