"""The part of the build that pyproject.toml cannot say: the optional C kernel.

It is a plain shared library, loaded with ctypes. Without a compiler the package installs all the
same, and the fused engine serves.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "moe/engine/kernel.c"
digest = hashlib.sha256(Path(SOURCE).read_bytes()).hexdigest()

setup(
    ext_modules=[
        Extension(
            "moe.engine._kernel",
            [SOURCE],
            # -ffast-math is not among them: linked, it would change the whole process's arithmetic.
            extra_compile_args=[
                *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
                *("-fno-trapping-math", "-Wno-psabi", f'-DSOURCE="{digest}"'),
            ],
            libraries=["m"],
            optional=True,
        )
    ]
)
