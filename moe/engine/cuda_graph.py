"""A step on fixed buffers: on a GPU captured as a CUDA graph once, then replayed.

A step of the fused engine is about a hundred small operations. Launching them one by one from
Python would leave a GPU idle; a graph launches them all at once. The same code runs on a CPU. It
reads and writes only fixed buffers and never copies a value back to the host.
"""

from collections.abc import Callable

import torch

WARM_UP = 3  # steps that run before the capture, so that libraries allocate their workspaces


class Replayed:
    """step: works on fixed buffers. Calling the object runs one step, directly or as a graph."""

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step, self.device = step, device
        self.done = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self) -> None:
        if self.side is None:
            self.step()
        elif self.graph is not None:
            self.graph.replay()
        elif self.done < WARM_UP:
            self._ordinary(self.side)
        else:
            self._capture(self.side)
        self.done += 1

    def _ordinary(self, side: torch.cuda.Stream) -> None:
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            self.step()
        torch.cuda.current_stream(self.device).wait_stream(side)

    def _capture(self, side: torch.cuda.Stream) -> None:
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=side):
            self.step()
        self.graph.replay()  # the capture itself does not run the step
