"""What setup.cfg cannot say: the BPF programs are built when the package is."""

import subprocess
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent / "bpf"))
from build import ToolMissingError, build


class BuildBpf(Command):
    """python setup.py build_bpf: build the BPF programs, and fail if that cannot be."""

    description = "build the BPF programs"
    user_options = []  # noqa: RUF012 - as setuptools wants it

    def initialize_options(self):
        """Nothing to set."""

    def finalize_options(self):
        """Nothing to check."""

    def run(self):
        """Build."""
        try:
            print(build())
        except (ToolMissingError, subprocess.CalledProcessError) as error:
            sys.exit(str(error))


class BuildPy(build_py):
    """The package, with BPF programs where they can be built: the offline half needs none."""

    def run(self):
        """Build both."""
        try:
            build()
        except ToolMissingError as error:
            print(f"warning: {error}; installing without: only recordings can be read", file=sys.stderr)
        super().run()


setup(cmdclass={"build_bpf": BuildBpf, "build_py": BuildPy})
