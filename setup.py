"""What setup.cfg cannot say: the probe and the BPF programs are built when the package is."""

import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CCompilerError, CompileError, ExecError, LinkError, PlatformError

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


PROBE = Path("tracekit/probe")
# With TLS descriptors the kernel side finds a thread's span in one read, and the extension loads
# where there is no room for static TLS. Compilers that cannot leave readers a longer way.
TLS_DESCRIPTORS = ["-mtls-dialect=gnu2"] if platform.machine() == "x86_64" else []


class BuildProbe(build_ext):
    """The probe in C, where it can be built: there is one in Python for everywhere else."""

    def build_extension(self, ext):
        """Build, with TLS descriptors if the compiler knows them."""
        ext.extra_compile_args = ["-O2", "-fvisibility=hidden", *TLS_DESCRIPTORS]
        try:
            super().build_extension(ext)
        except (CCompilerError, CompileError):
            ext.extra_compile_args = ["-O2", "-fvisibility=hidden"]
            super().build_extension(ext)

    def run(self):
        """Build, or say in one line that the probe will be the slow one."""
        try:
            super().run()
        except (CCompilerError, CompileError, ExecError, LinkError, PlatformError) as error:
            cause = str(error).splitlines()[0]
            print(f"warning: cannot build tracekit.probe in C: {cause}; installing the slow one", file=sys.stderr)


probe = Extension(
    "tracekit.probe._probe",
    [str(PROBE / "_probe.c")],
    include_dirs=["bpf"],
    depends=["bpf/abi/probe.h", *map(str, PROBE.glob("*.h"))],
)

setup(ext_modules=[probe], cmdclass={"build_bpf": BuildBpf, "build_ext": BuildProbe, "build_py": BuildPy})
