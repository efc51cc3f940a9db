"""The machine: facts that go into a recording, and what it lacks."""
