"""The data sets, by name: DATASETS holds the DATASET of every file in this folder; a name that ends
in .npz is a file of the user's own.

The declarations import without torch.
"""

import pkgutil
from importlib import import_module

from moe.data.info import DatasetInfo
from moe.data.own import SUFFIX, own_dataset


def _found() -> dict[str, DatasetInfo]:
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    infos = [module.DATASET for module in modules]
    return {info.name: info for info in sorted(infos, key=lambda info: (info.order, info.name))}


DATASETS = _found()


def dataset_named(name: str) -> DatasetInfo:
    """The data set with that name; ValueError, in one line, for an unknown one."""
    if name.endswith(SUFFIX):
        return own_dataset(name)
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise ValueError(f"data set {name!r} is unknown; it can be {known}, or a {SUFFIX} file")
    return DATASETS[name]
