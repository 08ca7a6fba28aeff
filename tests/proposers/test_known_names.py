"""Names that the embedded model does not know: replaced where it reads code, put back where it writes it."""

import json
import shutil
from pathlib import Path

from llmsr.problem.columns import Quantity, spec_text
from llmsr.problem.spec import load_spec, parse_spec
from llmsr.prompt import Prompt, Version, build_prompt
from llmsr.proposers.known_names import (
    EMBEDDED,
    KnownNames,
    in_known_names,
    knows_few_names,
    renamed,
    restored,
    stand_ins,
)
from llmsr.proposers.proposer import Completion

ROOT = Path(__file__).parents[2]
QUANTITIES = [
    Quantity("minutes", "minutes since pouring", "min"),
    Quantity("x1"),
    Quantity("room_temp"),
]


def prompt():
    spec = parse_spec(spec_text(QUANTITIES, Quantity("y"), "minutes count from 0"))
    body = "minutes_2 = minutes**2\nreturn params[0] * minutes_2 * x1 + room_temp"
    return build_prompt(spec, [Version(body, -1.0), Version("return params[0] * minutes", -0.5)])


def test_prompts_of_known_names_stay_as_they_are():
    for path in sorted((ROOT / "specs").glob("*_numpy.txt")):
        spec = load_spec(path)
        text = build_prompt(spec, [Version(spec.seed_body, -1.0)])
        if path.name.split("_")[1] in ("oscillator1", "oscillator2", "bactgrow", "stressstrain"):
            assert renamed(text, stand_ins(text)) == text


def test_code_is_renamed_and_prose_is_not():
    names = stand_ins(prompt())
    assert names == {"minutes": "x2", "room_temp": "x3"}
    text = renamed(prompt(), names)
    assert "the minutes since pouring" in text
    assert "minutes count from 0" in text
    assert "x2: minutes since pouring in min, one number per row." in text
    assert "minutes_2 = x2**2" in text
    assert "def equation_v2(x2: np.ndarray, x1: np.ndarray, x3: np.ndarray, params" in text
    assert "room_temp" not in text.split("@")[-1].split('"""')[-1]


def test_renaming_and_putting_back_is_the_identity_on_bodies():
    names = stand_ins(prompt())
    body = "    return params[0] * minutes * np.exp(-x1) + room_temp**2"
    there = restored(body, {v: k for k, v in names.items()})
    assert "minutes" not in there
    assert restored(there, names) == body


class Copying:
    """A model that answers with the last header it is shown."""

    name, parallel_prompts, batch_prompts = "copying", 1, 8

    def propose_many(self, prompts, n, seeds):
        headers = [prompt.text.rsplit("def ", 1)[1].split(")")[0] for prompt in prompts]
        return [[Completion(f"    return {header}", 3, "stop")] * n for header in headers]

    def close(self):
        pass


def test_a_proposer_answers_in_the_users_names():
    (answer,) = KnownNames(Copying()).propose(Prompt(prompt()), 1, 0)
    assert "minutes: np.ndarray, x1: np.ndarray, room_temp: np.ndarray" in answer.text
    assert (answer.tokens, answer.finish_reason) == (3, "stop")


def test_what_was_trained_from_the_embedded_model_is_known_by_its_vocabulary(tmp_path):
    assert knows_few_names(str(EMBEDDED))
    trained = tmp_path / "trained"
    trained.mkdir()
    written = json.loads((EMBEDDED / "tokenizer.json").read_text())
    # as another program writes the same tokenizer
    (trained / "tokenizer.json").write_text(json.dumps(written, indent=4, sort_keys=True))
    assert knows_few_names(str(trained))
    written["model"]["vocab"]["year"] = 2048
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text(json.dumps(written))
    assert not knows_few_names(str(other))
    assert not knows_few_names("Qwen/Qwen2.5-Coder-0.5B-Instruct")


def test_a_checkpoint_of_the_embedded_model_is_asked_like_it(tmp_path):
    from llmsr.proposers.choice import make_proposer
    from llmsr.settings import ProposerConfig

    folder = shutil.copytree(EMBEDDED, tmp_path / "final")
    proposer = make_proposer(ProposerConfig(model_path=str(folder), device="cpu"))
    assert isinstance(proposer, KnownNames)
    assert proposer.name == "transformers:final"
    proposer.close()


def test_a_training_row_is_in_known_names_and_says_how_to_read_its_answers():
    row = {"prompt": [{"role": "user", "content": prompt()}], "extra_info": {"index": 3, "begun": ""}}
    made = in_known_names(row)
    names = json.loads(made["extra_info"]["names"])
    assert names == {"minutes": "x2", "room_temp": "x3"}
    assert made["prompt"] == [{"role": "user", "content": renamed(prompt(), names)}]
    assert made["extra_info"]["index"] == 3
    assert restored("params[0]*x2 + x3", names) == "params[0]*minutes + room_temp"
