"""The recording: one SQLite file, the border between the machine under study and everything after."""
