"""Weights that are trained: float32 for the optimiser, and what the model computes with.

bfloat16 has eight bits of precision: a step of 1e-6 added to a weight of 0.02 would be lost. So where the
model computes in bfloat16 the optimiser has float32 copies of its own, which are rounded into the model after
each step. In float32 both are the same tensors. The copies and the optimiser's moments, 12 bytes a parameter,
may lie in host memory, so that a GPU holds the model alone.
"""

from __future__ import annotations

from typing import Any

import torch

GRADIENT_CLIP = 1.0


class TrainedWeights:
    """AdamW on a model's weights; gradients of several passes are summed in float32.

    With `offload` the optimiser lies and computes in host memory.
    """

    def __init__(self, model: Any, learning_rate: float, offload: bool = False) -> None:
        self._used = [p for p in model.parameters() if p.requires_grad]
        device = torch.device("cpu") if offload else model.device
        same = device == model.device and all(p.dtype == torch.float32 for p in self._used)
        self._masters = self._used if same else [_copy(p, device) for p in self._used]
        if not same:
            for place, p in enumerate(self._used):
                # during the pass, so that its bfloat16 gradients never lie there together
                p.register_post_accumulate_grad_hook(lambda _, place=place: self._sum_up(place))
        fused = offload or device.type == "cuda"
        self._optimizer = torch.optim.AdamW(self._masters, lr=learning_rate, weight_decay=0.01, fused=fused)

    def clear(self) -> None:
        """Forget the gradients."""
        for weights in (self._masters, self._used):
            for p in weights:
                p.grad = None

    def _sum_up(self, place: int) -> None:
        """Add a weight's gradient of a pass to the others, as soon as it is whole."""
        master, used = self._masters[place], self._used[place]
        gradient = used.grad.to(master.device).float()  # the narrow numbers travel
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        used.grad = None

    def step(self) -> float:
        """One step of AdamW with the gradients collected, clipped; their norm comes back.

        Nothing changes where the norm is not finite.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._masters, GRADIENT_CLIP)
        if torch.isfinite(norm):
            self._optimizer.step()
            self._round()
        return float(norm)

    def state(self) -> dict[str, Any]:
        """What resuming needs beside the model's own files."""
        masters = [] if self._masters is self._used else [p.detach() for p in self._masters]
        return {"optimizer": self._optimizer.state_dict(), "masters": masters}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; the model itself was loaded already.

        A state of float32 weights has no copies of its own: those of the model are as exact as there are.
        """
        self._optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for master, saved in zip(self._masters, state.get("masters") or self._used, strict=True):
                master.copy_(saved)
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        if self._masters is not self._used:
            for used, master in zip(self._used, self._masters, strict=True):
                used.copy_(master.to(used.dtype))


def _copy(weights: torch.Tensor, device: torch.device) -> torch.Tensor:
    return weights.detach().to(device, torch.float32).requires_grad_()
