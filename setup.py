"""Build configuration that pyproject.toml cannot express: the C extension, compiled through cffi.

`SLOTHSTATE_WERROR=1` turns the warnings of our own C into errors. `SLOTHSTATE_SANITIZE=1` builds with
AddressSanitizer and UBSan; run what uses it with their runtimes loaded first:

    SLOTHSTATE_SANITIZE=1 python setup.py build_ext --inplace --force
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \\
        ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc python -m pytest tests/native/test_codec.py

`SLOTHSTATE_COVERAGE=1` builds what counts for gcov which lines are run, and keeps the object files in build/coverage,
where gcov looks for what was counted. `nox -s sanitize` and `nox -s coverage` do all of this.
"""

import os
import re
import runpy
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

# cffi and setuptools resolve the paths below against the current directory, whatever it was.
os.chdir(Path(__file__).resolve().parent)

# Before a compiler is asked for: none would help a Python that cannot run this.
try:
    runpy.run_path("slothstate/interpreter.py")
except ImportError as refusal:
    raise SystemExit(f"error: {refusal}") from None

# Python's own headers are system headers here: their conversions are not ours to fix.
GNU_COMPILE = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-fvisibility=hidden"]
GNU_COMPILE += ["-isystem", sysconfig.get_path("include")]
# CPython builds extensions with -fwrapv, which hides signed overflow from UBSan.
SANITIZERS = "-fsanitize=address,undefined"
SANITIZE_COMPILE = ["-O1", "-g", "-fno-omit-frame-pointer", SANITIZERS]
SANITIZE_COMPILE += ["-fno-sanitize-recover=undefined", "-fno-wrapv"]
# Threads count at the same time, and what is optimized away or inlined would count as not run.
COVERAGE_COMPILE = ["-O0", "--coverage", "-fprofile-update=atomic"]


REPOSITORY = "https://github.com/slothstate/slothstate"
WHERE = {"": "blob/main", "!": "raw/main"}
"""Where pages and pictures are in it."""


def asked(switch: str) -> bool:
    """Whether the environment switches something on: set, and not to 0."""
    return os.environ.get(switch, "0") not in ("", "0")


def wants_debug_information() -> bool:
    """Whether $CFLAGS asks for it; CPython's own flags, which setuptools takes too, always do."""
    return any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split())


def description() -> str:
    """The README as the page of the package shows it: what leads to another file leads to it in the repository."""
    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(
        r"(!?)(\[[^\]]*\]\()(?!https?:|#)", lambda found: f"{found[1]}{found[2]}{REPOSITORY}/{WHERE[found[1]]}/", text
    )


class BuildNative(build_ext):
    """Compile with the flags of the compiler at hand, and say in one sentence what is missing without one."""

    def build_extensions(self) -> None:
        compile_flags = ["/std:c11"] if self.compiler.compiler_type == "msvc" else list(GNU_COMPILE)
        link_flags = []
        if self.compiler.compiler_type != "msvc" and not wants_debug_information():
            # Half of the wheel, and all in it that depends on where it was built.
            compile_flags.append("-g0")
        if asked("SLOTHSTATE_WERROR"):
            compile_flags.append("-Werror")
        if asked("SLOTHSTATE_SANITIZE"):
            compile_flags += SANITIZE_COMPILE
            link_flags.append(SANITIZERS)
        if asked("SLOTHSTATE_COVERAGE"):
            compile_flags += COVERAGE_COMPILE
            link_flags.append("--coverage")
            self.build_temp = "build/coverage"
        # setuptools takes what an earlier build left, whatever its flags were: sanitizers would be missing unnoticed.
        self.force = True
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, *compile_flags]
            extension.extra_link_args = [*extension.extra_link_args, *link_flags]
        try:
            super().build_extensions()
        except (CCompilerError, ExecError, PlatformError) as cause:
            raise PlatformError(
                "the C part of slothstate could not be compiled; it needs a C compiler and Python's headers: install "
                "gcc or clang and python3-dev (on Windows the Visual Studio Build Tools), then try again "
                f"({cause!s:.120})"
            ) from cause


# What the files of a wheel are dated, unless the environment says otherwise: two builds are equal byte for byte.
os.environ.setdefault("SOURCE_DATE_EPOCH", "1577836800")

setup(
    cffi_modules=["csrc/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
    long_description=description(),
    long_description_content_type="text/markdown",
)
