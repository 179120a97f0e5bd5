"""Builds the compiled engine: every ``picante/_core/*.pyx`` becomes one extension module.

Metadata stands in ``pyproject.toml``; here is only what it cannot say.  Builds in place (``pip install -e``,
``build_ext --inplace``) are a developer's: warnings of Cython and of the C compiler are errors.  A wheel is
built by compilers that we have never seen: there they stay warnings.

Variables, where ``""`` and ``"0"`` mean off (CONTRIBUTING.md says what each is good for):

PICANTE_DEBUG     no optimisation, debug symbols, assertions, the C macro ``PICANTE_DEBUG``
                  (``=lines``: optimised, with symbols that lead to the lines of the ``.pyx`` files, for ``perf``)
PICANTE_TRACE     profiling and line tracing; the C lies beside its source, where ``Cython.Coverage`` looks
PICANTE_ANNOTATE  an HTML page beside each generated C file: what each line costs
PICANTE_SANITIZE  assertions, address and undefined-behaviour sanitizers (or those named: ``address``)
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SWITCHES = ("PICANTE_DEBUG", "PICANTE_TRACE", "PICANTE_ANNOTATE", "PICANTE_SANITIZE")
VALUES = [os.environ.get(name, "").strip() for name in SWITCHES]
DEBUG, TRACE, ANNOTATE, SANITIZE = VALUES = ["" if value == "0" else value for value in VALUES]
LINES = DEBUG == "lines"
DEBUG = "" if LINES else DEBUG

CORE = Path("picante", "_core")
ABI = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
BUILD = Path("build", ABI)  # each interpreter has its own
STAMP = (
    BUILD / "flags"
)  # with which the rest of the folder was built; the Makefile reads its first line

DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "linetrace": bool(TRACE),
    "profile": bool(TRACE),
}
MACROS = [("PICANTE_DEBUG", "1")] if DEBUG else []
if TRACE:  # from 3.13 on Cython would use sys.monitoring, where Cython.Coverage needs sys.settrace
    MACROS += [("CYTHON_TRACE", "1")]
    MACROS += [("CYTHON_USE_SYS_MONITORING", "0")] * (sys.version_info >= (3, 13))

# For gcc and clang.
C_FLAGS = ["-Wall", "-Wextra", "-Wno-unused-function"]  # Cython leaves helpers behind
C_FLAGS += ["-O0", "-g", "-UNDEBUG", "-U_FORTIFY_SOURCE"] if DEBUG else ["-O3", "-g0"]
C_FLAGS += ["-g", "-fno-omit-frame-pointer"] if LINES else []
if not (DEBUG or SANITIZE):
    MACROS += [("CYTHON_WITHOUT_ASSERTIONS", "1")]
    C_FLAGS += ["-Wno-unused-variable"]  # what only an assertion uses
SANITIZERS = []
if SANITIZE:
    SANITIZERS = ["-fsanitize=" + ("address,undefined" if SANITIZE == "1" else SANITIZE)]
    C_FLAGS += [*SANITIZERS, "-fno-omit-frame-pointer", "-g"]


class BuildExt(build_ext):
    """Translates and compiles in parallel, and everything afresh when a flag has changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.strict = bool(self.inplace)
        if self.inplace:  # instead of a folder that an editable install throws away
            self.build_lib = str(BUILD / "lib")

    def build_extensions(self) -> None:
        from Cython import __version__
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        switches = " ".join(f"{name}={value}" for name, value in zip(SWITCHES, VALUES, strict=True))
        flags = [switches, __version__, os.environ.get("CC", ""), os.environ.get("CFLAGS", "")]
        if not STAMP.exists() or STAMP.read_text() != "\n".join(flags):
            shutil.rmtree(
                BUILD, ignore_errors=True
            )  # C made anew is newer than all that was compiled
            for path in CORE.glob("*.pyx"):
                path.with_suffix(".c").unlink(missing_ok=True)
            BUILD.mkdir(parents=True)
            STAMP.write_text("\n".join(flags))

        Options.warning_errors = self.strict
        translated = cythonize(
            self.extensions,
            build_dir=None if TRACE else str(BUILD / "c"),
            compiler_directives=DIRECTIVES,
            annotate=bool(ANNOTATE),
            emit_linenums=LINES,
            force=self.force,
            nthreads=self.parallel,
        )
        werror = (
            ["-Werror"] if self.strict and not (SANITIZE or TRACE) else []
        )  # sanitizers and line tracing cause false alarms
        for extension, c in zip(self.extensions, translated, strict=True):
            extension.sources, extension.depends = c.sources, c.depends
            extension.define_macros += MACROS
            if self.compiler.compiler_type == "unix":
                extension.extra_compile_args += C_FLAGS + werror
                extension.extra_link_args += SANITIZERS
        super().build_extensions()
        for library in CORE.glob("*" + sysconfig.get_config_var("EXT_SUFFIX")):
            if not Path(CORE, library.name.split(".")[0] + ".pyx").exists():
                library.unlink()  # of a module that is gone, but would still import


if __name__ == "__main__":  # spawned Cython workers import this file, too
    setup(
        ext_modules=[
            Extension(f"picante._core.{path.stem}", [str(path)], include_dirs=[str(CORE)])
            for path in sorted(CORE.glob("*.pyx"))
        ],
        cmdclass={"build_ext": BuildExt},
    )
