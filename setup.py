"""The parts of the build that pyproject.toml cannot say.

The optional C kernel: a plain shared library, loaded with ctypes. Without a compiler the package
still installs, and the fused engine does the work. And the files of the project that the wheel
carries for `moe-mnist init`.
"""

import hashlib
import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from stages.project_files import FOLDER, project_files

SOURCES = sorted(Path("moe/engine").glob("*.c"))  # kernel.c includes the others
# Without -ffast-math: linked, it would change the arithmetic of the whole process.
FLAGS = [
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-trapping-math", "-Wno-psabi"),
]
digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()
# The same source built otherwise may round otherwise: the keys of finished runs cover this.
built = " ".join([sysconfig.get_config_var("CFLAGS") or "", os.environ.get("CFLAGS", ""), *FLAGS])
built = built.replace("\\", "").replace('"', "")


class BuildPy(build_py):
    """Copies the files of the project too, unless the package stays in its checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for file in project_files(Path()):
            target = Path(self.build_lib) / FOLDER / file
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(file), str(target))


setup(
    cmdclass={"build_py": BuildPy},
    ext_modules=[
        Extension(
            "moe.engine._kernel",
            ["moe/engine/kernel.c"],
            depends=[str(source) for source in SOURCES],
            extra_compile_args=[*FLAGS, f'-DSOURCE="{digest}"', f'-DFLAGS="{built}"'],
            libraries=["m"],
            optional=True,
        )
    ],
)
