"""Recordings as other programs read them: values to bytes, no sockets."""
