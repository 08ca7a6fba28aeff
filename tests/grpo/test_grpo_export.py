"""checkpoints/final: whole, in the base's number format, different from it, and refused when it is not so."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from llmsr.grpo.export import (  # noqa: E402
    BEST,
    ExportFault,
    best_step,
    export_final,
    final_model,
    keep_best,
    merge_adapters,
)
from llmsr.grpo.plan import EMBEDDED, make_plan  # noqa: E402
from llmsr.grpo.settings import GrpoConfig  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(EMBEDDED).save_pretrained(folder)
    return folder


def trained(base, folder, change, **source):
    """A checkpoint in float32 as trainers write it, its weights changed."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **source)
    with torch.no_grad():
        for parameter in model.parameters():
            change(parameter)
    model.save_pretrained(folder)
    return folder


def test_the_final_folder_is_complete_and_in_the_bases_format(base, tmp_path):
    found = export_final(trained(base, tmp_path / "t", lambda p: p.add_(0.5)), str(base), tmp_path / "final")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "final", dtype="auto")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "final")
    assert model.dtype == torch.bfloat16
    assert found["dtype"] == "bfloat16"
    assert found["changed"] == found["weights"] > 0
    assert tokenizer.chat_template
    ids = torch.tensor([tokenizer("return")["input_ids"]])
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] >= ids.shape[1]


def test_a_trusted_model_that_brings_its_code_is_exported_with_it(base, tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    custom = tmp_path / "custom"
    shutil.copytree(base, custom)
    (custom / "mine.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'mine'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    config = json.loads((custom / "config.json").read_text()) | {
        "model_type": "mine",
        "architectures": ["Model"],
        "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    }
    (custom / "config.json").write_text(json.dumps(config))
    checkpoint = trained(custom, tmp_path / "t", lambda p: p.add_(0.5), trust_remote_code=True)
    export_final(checkpoint, str(custom), tmp_path / "final", trust_remote_code=True)
    assert (tmp_path / "final" / "mine.py").read_text() == (custom / "mine.py").read_text()
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "final", trust_remote_code=True)
    assert type(again).__name__ == "Model"


def test_a_model_that_equals_its_base_is_no_result(base, tmp_path):
    with pytest.raises(ExportFault, match="not one weight changed"):
        export_final(trained(base, tmp_path / "t", lambda p: None), str(base), tmp_path / "final")
    assert not (tmp_path / "final").exists()


def test_changes_that_rounding_loses_are_named(base, tmp_path):
    with pytest.raises(ExportFault, match="learning_rate"):
        export_final(trained(base, tmp_path / "t", lambda p: p.mul_(1 + 1e-6)), str(base), tmp_path / "final")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(base, tmp_path, bad):
    def spoil(parameter):
        parameter.view(-1)[0] = bad

    with pytest.raises(ExportFault, match="NaN or infinite"):
        export_final(trained(base, tmp_path / "t", spoil), str(base), tmp_path / "final")


def test_a_failed_export_leaves_the_earlier_one(base, tmp_path):
    good = trained(base, tmp_path / "good", lambda p: p.add_(0.5))
    export_final(good, str(base), tmp_path / "final")
    before = (tmp_path / "final" / "model.safetensors").read_bytes()
    with pytest.raises(ExportFault):
        export_final(trained(base, tmp_path / "same", lambda p: None), str(base), tmp_path / "final")
    assert (tmp_path / "final" / "model.safetensors").read_bytes() == before


def test_a_missing_weight_is_refused(base, tmp_path):
    folder = trained(base, tmp_path / "t", lambda p: p.add_(0.5))
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportFault, match="do not fit"):
        export_final(folder, str(base), tmp_path / "final")


def adapted(base, rank=2):
    """The weights of a model with adapters, named as PEFT names them."""
    plain = load_file(base / "model.safetensors")
    weights, generator = {}, torch.Generator().manual_seed(0)
    for name, value in plain.items():
        if name.endswith("q_proj.weight"):
            stem = "base_model.model." + name.removesuffix(".weight")
            weights[f"{stem}.base_layer.weight"] = value
            weights[f"{stem}.lora_A.default.weight"] = torch.randn(rank, value.shape[1], generator=generator)
            weights[f"{stem}.lora_B.default.weight"] = torch.randn(value.shape[0], rank, generator=generator)
        else:
            weights["base_model.model." + name] = value
    return plain, weights


def test_adapters_are_merged_into_the_weights_they_belong_to(base, tmp_path):
    plain, weights = adapted(base)
    checkpoint = tmp_path / "actor" / "huggingface"
    checkpoint.mkdir(parents=True)
    save_file(weights, checkpoint / "model.safetensors")
    (tmp_path / "actor" / "lora_train_meta.json").write_text(json.dumps({"r": 2, "lora_alpha": 6}))
    export_final(checkpoint, str(base), tmp_path / "final")
    final = load_file(tmp_path / "final" / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    stem = "base_model.model." + name.removesuffix(".weight")
    expected = (
        plain[name].float()
        + 3 * weights[f"{stem}.lora_B.default.weight"] @ weights[f"{stem}.lora_A.default.weight"]
    )
    assert torch.equal(final[name], expected.to(torch.bfloat16))
    assert torch.equal(final["model.norm.weight"], plain["model.norm.weight"])


def test_an_adapter_without_its_weight_is_refused(base):
    _, weights = adapted(base)
    weights.pop(next(name for name in weights if "base_layer" in name))
    with pytest.raises(ExportFault, match="did not find the weight"):
        merge_adapters(weights, {"r": 2, "lora_alpha": 4})


def test_adapters_whose_scale_is_unknown_are_refused(base):
    _, weights = adapted(base)
    with pytest.raises(ExportFault, match="base model again"):
        merge_adapters(weights, {"r": 2, "lora_alpha": 0})


def test_base_and_adapter_may_lie_apart(base, tmp_path):
    plain, weights = adapted(base)
    folder = tmp_path / "merged"
    (folder / "lora_adapter").mkdir(parents=True)
    save_file(plain, folder / "model.safetensors")
    pairs = {n.replace(".default", ""): v for n, v in weights.items() if "lora_" in n}
    save_file(pairs, folder / "lora_adapter" / "adapter_model.safetensors")
    (folder / "lora_adapter" / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    assert export_final(folder, str(base), tmp_path / "final")["changed"] == 2


def test_the_best_validated_checkpoint_outlives_the_trainers_own(tmp_path):
    def save(step):
        actor = tmp_path / f"global_step_{step}" / "actor"
        (actor / "huggingface").mkdir(parents=True)
        (actor / "huggingface" / "model.safetensors").write_text(f"weights {step}")
        (actor / "optim_world_size_1_rank_0.pt").write_text("moments")

    assert best_step(tmp_path) is None
    for step, reward in ((1, 0.2), (2, 0.5), (3, 0.4), (4, 0.5)):
        if step != 4:
            save(step)
        keep_best(tmp_path, step, reward)  # the fourth is as good and was not saved
        if step > 1:
            shutil.rmtree(tmp_path / f"global_step_{step - 1}")
    assert best_step(tmp_path) == (2, 0.5)
    kept = [path for path in (tmp_path / BEST / "actor").rglob("*") if path.is_file()]
    assert [path.read_text() for path in kept] == ["weights 2"]
    save(5)
    keep_best(tmp_path, 5, 0.5)  # of equals the one that was trained longer
    assert best_step(tmp_path) == (5, 0.5)


def test_the_last_checkpoint_is_exported_where_the_best_validated_is_the_untrained_model(base, tmp_path):
    config = GrpoConfig(model_path=str(base), output_dir=str(tmp_path), trainer="local")
    plan = make_plan(config, cuda=False)
    for step, change in ((1, 0.0), (2, 0.5)):
        actor = plan.checkpoints / f"global_step_{step}" / "actor"
        trained(base, actor / "huggingface", lambda p, change=change: p.add_(change))
        keep_best(plan.checkpoints, step, 1.0 - step)
    (plan.checkpoints / "latest_checkpointed_iteration.txt").write_text("2")
    assert best_step(plan.checkpoints) == (1, 0.0)
    assert final_model(plan)["step"] == 2
    assert (plan.final / "config.json").is_file()
