"""Our engines compared with the usual ways to train: one command, one run, one machine.

`python -m benchmarks.bench` writes results.json and benchmark.svg into this folder.
"""
