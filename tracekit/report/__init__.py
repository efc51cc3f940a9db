"""Recordings as people read them: text, terminal pictures, SVG."""
