"""The key of a trained run in the store: a digest of everything that its result depends on.

It covers the trial, seed and settings, the data, the versions of torch and numpy, the kind of
machine, and the sources: everything that the run's engine and recipe import. Adding a recipe does
not change the keys of other runs.
"""

import functools
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy
import torch

from moe.engine import kernel
from moe.recipes import recipe_file
from moe.study.runs import RUN_KEYS, Run, digest
from moe.study.train_settings import Train, with_settings
from moe.train.import_closure import ROOT, import_closure

ENGINES = {"fused": "moe/engine/fused.py", "kernel": "moe/engine/kernel.py"}


def run_keys(
    runs: Sequence[Run],
    settings: Train,
    data_digest: str,
    device: torch.device,
    engines: Mapping[str, str],
) -> dict[Run, str]:
    """The key of each run, 64 hexadecimal digits.

    settings: the study's; settings that the study sweeps are overridden by the run's own. A run has
    the same key in every study. engines: the engine of each recipe.
    """
    common = {
        "data": data_digest,
        "versions": [torch.__version__, numpy.__version__],
    }
    of_recipe = {
        recipe: {
            "engine": engine,
            "machine": machine_kind(engine, device),
            "built": kernel.build() if engine == "kernel" else "",
            "sources": _digest_of(sources(engine, recipe)),
        }
        for recipe, engine in engines.items()
    }
    return {
        run: digest(
            [
                list(run[: len(RUN_KEYS)]),
                {"settings": asdict(with_settings(settings, run.settings)), **common},
                of_recipe[run.recipe],
            ]
        )
        for run in runs
    }


def sources(engine: str, recipe: str) -> list[Path]:
    """The files that a run depends on: everything that its engine and its recipe import."""
    files = import_closure(ENGINES[engine])
    in_c = kernel.source_files() if engine == "kernel" else []
    own = recipe_file(recipe)
    if own and own.resolve().is_relative_to(ROOT):
        files |= import_closure(own.resolve().relative_to(ROOT).as_posix())
    return sorted({*([own.resolve()] if own else []), *in_c, *(ROOT / file for file in files)})


@functools.cache
def _bytes_of(file: Path) -> bytes:
    return file.read_bytes()


def _digest_of(files: Sequence[Path]) -> str:
    parts = [[file.name, hashlib.sha256(_bytes_of(file)).hexdigest()] for file in files]
    return digest(parts)


def machine_kind(engine: str, device: torch.device) -> str:
    """What an engine's rounding depends on: the GPU's name, or the CPU's instruction set."""
    if engine == "kernel":
        return f"{platform.machine()} {kernel.level_in_use()}"
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
