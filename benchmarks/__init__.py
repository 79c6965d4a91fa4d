"""Our engines compared with what a user would write instead: one command, one run, one machine.

`python -m benchmarks.bench` writes results.json and benchmark.svg into this folder.
"""
