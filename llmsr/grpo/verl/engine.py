"""VERL's FSDP engine, with every prompt of a pass read once for all of its answers.

VERL imports this module in its processes (`actor_rollout_ref.model.external_lib`); it needs verl 0.9.1, so
nothing else imports it. It takes the place of VERL's own engine for language models under fsdp2.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

from llmsr.models import log_probs, packing

# Processes that draw or score answers import this module too. They hold no engine, and importing VERL's
# would cost each of them seconds.
HOLDS_AN_ENGINE = "verl.workers.engine_workers" in sys.modules

if HOLDS_AN_ENGINE:
    import torch
    from verl.utils import tensordict_utils as tu
    from verl.utils.device import get_device_id
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
    from verl.workers.engine.utils import postprocess_batch_func

    class PackedEngine(FSDPEngineWithLMHead):
        """An FSDP engine whose passes are packs (see `packing`).

        A pass holds about `max_token_len_per_gpu` tokens at most, shared prompts counted once. All ranks make
        the same number of passes, since FSDP's collectives wait for each other.
        """

        def _build_module(self) -> Any:
            module = super()._build_module()
            module.forward = MethodType(log_probs.read_answers, module)
            return module

        def _build_fsdp_module(self, module: Any) -> Any:
            wrapped = super()._build_fsdp_module(module)
            # FSDP hands out bfloat16 weights already; to look at the inputs of every operation for what to
            # cast would cost a good part of a pass, which is bound by its launches
            self._autocast_dtype = torch.float32
            return wrapped

        def forward_backward_batch(
            self, data: Any, loss_function: Callable[..., Any], forward_only: bool = False
        ) -> Any:
            group = self.get_data_parallel_group()
            sequences = _sequences(data)
            needed = math.ceil(packing.packed_tokens(*sequences) / int(data["max_token_len_per_gpu"]))
            counts = torch.tensor([int(data["loss_mask"].sum()), needed], device=get_device_id())
            tokens, passes = counts.unbind()
            torch.distributed.all_reduce(tokens, group=group)
            torch.distributed.all_reduce(passes, op=torch.distributed.ReduceOp.MAX, group=group)
            tu.assign_non_tensor(
                data,
                sp_size=1,
                batch_num_tokens=tokens.item(),
                dp_size=self.get_data_parallel_size(),
                use_dynamic_bsz=True,
            )
            keep = tu.get_non_tensor_data(data=data, key="return_model_output", default=False)
            chosen = packing.split_passes(*sequences, int(passes))
            outputs = []
            for i, indices in enumerate(chosen):
                rows = tu.index_select_tensor_dict(data, indices)
                if forward_only:
                    with torch.no_grad():
                        outputs.append(self.forward_step(rows, loss_function, True)[1])
                    continue
                with self._gradient_sync_context(is_last_micro_batch=i == len(chosen) - 1):
                    loss, output = self.forward_step(rows, loss_function, False)
                    loss.backward()
                if not keep:
                    output.pop("model_output")
                outputs.append(output)
            return postprocess_batch_func(output_lst=outputs, indices=chosen, data=data)

        def prepare_model_inputs(self, micro_batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            packed = packing.pack(*_sequences(micro_batch)).to(get_device_id(), torch.bfloat16)
            temperature = micro_batch["temperature"]
            if isinstance(temperature, torch.Tensor):
                raise ValueError("one temperature for all answers is expected")
            inputs = {
                "input_ids": packed.tokens[None],
                "position_ids": packed.positions[None],
                "packed": packed,
                "temperature": float(temperature),
            }
            return inputs, {"packed": packed}

        def prepare_model_outputs(
            self, output: Any, output_args: dict[str, Any], micro_batch: Any, logits_processor_func: Any
        ) -> dict[str, Any]:
            """Nested (answers, prompt + answer) as VERL slices them; what belongs to prompts is 0."""
            bounds = micro_batch["input_ids"].offsets()
            places = output_args["packed"].answer_places
            flat = output.log_probs.new_zeros(int(bounds[-1]))

            def laid_out(values: Any) -> Any:
                return torch.nested.nested_tensor_from_jagged(flat.index_copy(0, places, values), bounds)

            outputs = {"log_probs": laid_out(output.log_probs)}
            if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
                outputs["entropy"] = laid_out(output.entropy)
            return outputs

    def _sequences(data: Any) -> tuple[list[list[int]], list[list[int]]]:
        """The tokens of prompts and of answers."""
        return tuple([part.tolist() for part in data[name].unbind()] for name in ("prompts", "responses"))  # type: ignore[return-value]

    EngineRegistry._engines["language_model"]["fsdp2"]["cuda"] = PackedEngine
