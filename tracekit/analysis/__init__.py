"""Questions asked of a recording: pure functions, arrays in, arrays or frozen values out."""
