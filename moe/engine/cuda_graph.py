"""A step on fixed buffers: on a GPU captured as a CUDA graph once, then replayed.

A step of the fused engine is about a hundred small operations; started one by one from Python they
would keep a GPU waiting. A graph starts them all at once. What is captured is what runs on the CPU
too: it may read and write only tensors that stay where they are, and may not ask the device for a
value.
"""

from collections.abc import Callable

import torch

WARM_UP = 3  # steps done the ordinary way first: libraries allocate their workspaces in them


class Replayed:
    """step: works on fixed buffers; calling this does one step, whichever way."""

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
        self.graph.replay()  # capturing has computed nothing
