"""The part of the build that pyproject.toml cannot say: the optional C kernel.

It is a plain shared library, loaded with ctypes. Without a compiler the package still installs, and
the fused engine does the work.
"""

import hashlib
import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "moe/engine/kernel.c"
# Without -ffast-math: linked, it would change the arithmetic of the whole process.
FLAGS = [
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-trapping-math", "-Wno-psabi"),
]
digest = hashlib.sha256(Path(SOURCE).read_bytes()).hexdigest()
# The same source built otherwise may round otherwise: the keys of finished runs cover this.
built = " ".join([sysconfig.get_config_var("CFLAGS") or "", os.environ.get("CFLAGS", ""), *FLAGS])
built = built.replace("\\", "").replace('"', "")

setup(
    ext_modules=[
        Extension(
            "moe.engine._kernel",
            [SOURCE],
            extra_compile_args=[*FLAGS, f'-DSOURCE="{digest}"', f'-DFLAGS="{built}"'],
            libraries=["m"],
            optional=True,
        )
    ]
)
