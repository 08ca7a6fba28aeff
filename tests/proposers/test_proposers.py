"""Proposers: what services, files and models do wrong, and what becomes of it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fake_server import BODY, MODEL, FakeServer

from llmsr.errors import UserError, scrubbed
from llmsr.prompt import Chat, Prompt, cut_at_stops
from llmsr.proposers.choice import chosen_proposer, make_proposer
from llmsr.proposers.proposer import Completion, ProposerFailure
from llmsr.settings import ProposerConfig

KEY = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("llmsr.proposers.service.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


def ask(server, **settings):
    defaults = {"proposer": "openai", "api_base": server.base, "retries": 2, "timeout": 5.0}
    return make_proposer(ProposerConfig(**(defaults | settings)))


# ---- a healthy server


def test_n_samples_come_from_one_request_with_their_tokens(server):
    completions = ask(server).propose(Prompt("the prompt"), 4, 1)
    assert [c.text for c in completions] == [BODY] * 4
    assert sum(c.tokens for c in completions) == 28
    assert not any(c.tokens_estimated for c in completions)
    assert len(server.requests) == 1


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(server).propose(Prompt("p"), 1, 1)


def test_the_only_model_served_is_taken(server):
    assert ask(server).model == MODEL


def test_several_models_served_and_none_named_is_a_user_error():
    with FakeServer(models=("one", "two")) as fake, pytest.raises(UserError, match=r"--api_model.*one, two"):
        ask(fake)


def test_chat_wraps_the_prompt_and_completion_sends_it_bare(server):
    ask(server, api_mode="chat").propose(Prompt("the prompt"), 1, 1)
    ask(server, api_mode="completion").propose(Prompt("the prompt"), 1, 1)
    (chat_path, _, chat), (raw_path, _, raw) = server.requests
    assert chat_path == "/v1/chat/completions"
    assert chat["messages"] == [{"role": "user", "content": "the prompt"}]
    assert chat["chat_template_kwargs"] == {"enable_thinking": False}
    assert raw_path == "/v1/completions"
    assert raw["prompt"] == "the prompt"
    assert "\ndef " in raw["stop"]


BEGUN = "```python\ndef equation(x, params):\n    return"
ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which equation?"})
BEGUN_CHAT = Prompt("the text", Chat(ASKED, BEGUN, ("\n",)))


def going_on(asked):
    """What a server that goes on with a begun answer says."""
    begun = asked["messages"][-1]["content"]
    return " + b\n```" if "add(" in begun else " params[0] * x\n```"


def test_a_server_that_goes_on_gets_begun_answers(server):
    server.reply = going_on
    proposer = ask(server, api_mode="chat")
    for _ in range(2):
        (completion,) = proposer.propose(BEGUN_CHAT, 1, 1)
        assert completion.text == f"{BEGUN} params[0] * x"
    trial, first, second = (asked for _, _, asked in server.requests)
    assert trial["messages"][-1]["content"].endswith("return a")
    assert first["messages"] == second["messages"] == [*ASKED, {"role": "assistant", "content": BEGUN}]
    assert (first["continue_final_message"], first["add_generation_prompt"]) == (True, False)
    assert first["stop"] == ["\n"]


@pytest.mark.parametrize("echoes", [True, False])
def test_begun_text_that_comes_back_is_not_doubled(server, echoes):
    server.reply = lambda asked: asked["messages"][-1]["content"] * echoes + going_on(asked)
    (completion,) = ask(server, api_mode="chat").propose(BEGUN_CHAT, 1, 1)
    assert completion.text == f"{BEGUN} params[0] * x"


def test_a_server_that_begins_anew_or_refuses_gets_free_questions(server):
    server.reply = lambda asked: "```python\ndef equation(x, params):\n    return x\n```\nDone."
    for behaviour in ("ok", "422"):
        server.plan(behaviour)
        server.requests.clear()
        (completion,) = ask(server, api_mode="chat").propose(BEGUN_CHAT, 1, 1)
        asked = server.requests[-1][2]
        assert len(server.requests) == 2
        assert asked["messages"][-1]["role"] == "user"
        assert asked["messages"][-1]["content"].startswith("Which equation?")
        assert "continue_final_message" not in asked
        assert completion.text == "```python\ndef equation(x, params):\n    return x"


def test_thoughts_have_tokens_of_their_own_and_reach_the_template(server):
    prompt = Prompt("the text", Chat(ASKED, thinking=1000))
    proposer = ask(server, api_mode="chat", max_tokens=50)
    proposer.propose(prompt, 1, 1)
    proposer.propose(Prompt("the text", Chat(ASKED)), 1, 1)
    thinking, plain = (asked for _, _, asked in server.requests)
    assert (thinking["max_tokens"], plain["max_tokens"]) == (1050, 50)
    assert thinking["chat_template_kwargs"] == {"enable_thinking": True}
    assert plain["chat_template_kwargs"] == {"enable_thinking": False}
    assert "stop" not in thinking


def test_a_server_that_knows_no_template_arguments_is_still_asked_in_chats(server):
    server.always = "no extras"
    ask(server).propose(Prompt("the text", Chat(ASKED)), 1, 1)
    assert [path for path, _, _ in server.requests] == ["/v1/chat/completions"] * 2
    assert "chat_template_kwargs" not in server.requests[1][2]


def test_the_seed_and_the_sampling_settings_reach_the_server(server):
    ask(server, temperature=0.3, top_p=0.9, max_tokens=77).propose(Prompt("p"), 2, 2**33 + 5)
    asked = server.requests[0][2]
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"], asked["seed"]) == (0.3, 0.9, 77, 5)


def test_the_key_goes_to_the_server_and_the_newer_name_serves_too(server, monkeypatch):
    monkeypatch.delenv("API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other0123456789")
    ask(server).propose(Prompt("p"), 1, 1)
    assert server.requests[0][1]["authorization"] == "Bearer sk-other0123456789"


def test_a_raw_completion_ends_where_the_next_function_begins(server):
    server.text = BODY + "\n\ndef equation_v3(x):\n    return 1\n"
    (completion,) = ask(server, api_mode="completion").propose(Prompt("p"), 1, 1)
    assert completion.text.strip() == BODY.strip()


def test_tokens_without_usage_are_marked_as_guesses(server):
    server.plan("no usage")
    (completion,) = ask(server).propose(Prompt("p"), 1, 1)
    assert completion.tokens_estimated
    assert completion.tokens > 0


def test_a_chat_model_that_says_nothing_gives_an_empty_completion(server):
    server.plan("null content")
    (completion,) = ask(server, api_mode="chat").propose(Prompt("p"), 1, 1)
    assert (completion.text, completion.finish_reason) == ("", "length")


# ---- what ends the run at once


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_wrong_key_is_a_user_error_after_one_request_and_is_not_shown(server, status):
    server.always = status
    with pytest.raises(UserError, match="API_KEY") as raised:
        ask(server).propose(Prompt("p"), 2, 1)
    assert KEY not in str(raised.value)
    assert len(server.requests) == 1


def test_a_wrong_key_is_found_at_the_start(server):
    server.list_behaviour = "401"
    with pytest.raises(UserError, match="API_KEY") as raised:
        ask(server)
    assert KEY not in str(raised.value)


def test_a_wrong_model_is_a_user_error_that_names_the_nearest(server):
    with pytest.raises(UserError, match=r"'fake-modell'.*fake-model") as raised:
        ask(server, api_model="fake-modell", api_mode="chat").propose(Prompt("p"), 2, 1)
    assert "--api_model" in str(raised.value)
    assert len(server.requests) == 1


def test_a_wrong_model_is_not_taken_for_a_server_without_chat(server):
    with pytest.raises(UserError, match="does not know the model"):
        ask(server, api_model="other").propose(Prompt("p"), 2, 1)
    assert len(server.requests) == 1


def test_no_server_is_a_user_error_with_the_url_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        started = time.monotonic()
        with pytest.raises(UserError, match=r"no server answers at .*--api_base") as raised:
            make_proposer(ProposerConfig(api_base=base, retries=5))
    assert base in str(raised.value)
    assert time.monotonic() - started < 5


def test_a_redirect_is_refused_with_its_target_and_not_followed(server):
    server.plan("redirect")
    with FakeServer() as elsewhere:
        server.redirect_to = f"{elsewhere.base}/chat/completions"
        with pytest.raises(UserError, match="redirects to") as raised:
            ask(server).propose(Prompt("p"), 1, 1)
        assert server.redirect_to in str(raised.value)
        assert elsewhere.requests == []


def test_a_used_up_quota_is_not_waited_for(server):
    server.plan("quota")
    with pytest.raises(UserError, match="quota"):
        ask(server).propose(Prompt("p"), 1, 1)
    assert len(server.requests) == 1


def test_openai_without_a_key_is_a_user_error(monkeypatch):
    monkeypatch.delenv("API_KEY")
    with pytest.raises(UserError, match="API_KEY"):
        make_proposer(ProposerConfig(use_api=True, api_model="gpt-4o"))


@pytest.mark.parametrize("base", ["localhost:8000", "ftp://x/v1", "http://", "not a url"])
def test_a_base_that_is_no_url_is_a_user_error(base):
    with pytest.raises(UserError, match="--api_base"):
        make_proposer(ProposerConfig(proposer="openai", api_base=base))


# ---- what passes, or fails one prompt

FAULTS = {
    "429": "rate_limit",
    "500": "server",
    "503": "server",
    "garbage": "answer",
    "html": "answer",
    "deep": "answer",
    "empty choices": "answer",
    "null choices": "answer",
    "no text": "answer",
    "half": "connection",
    "reset": "connection",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_nothing_but_another_request(server, fault):
    server.plan(fault, fault)
    assert len(ask(server).propose(Prompt("p"), 3, 1)) == 3
    assert len(server.requests) == 3


@pytest.mark.parametrize(("fault", "kind"), FAULTS.items())
def test_a_fault_that_stays_is_a_failure_with_kind_and_reason_after_the_retries(server, fault, kind):
    server.always = fault
    with pytest.raises(ProposerFailure, match="tried 3 times") as raised:
        ask(server).propose(Prompt("p"), 2, 1)
    assert raised.value.kind == kind
    assert len(server.requests) == 3


def test_a_hang_ends_with_the_timeout(server):
    server.always = "hang"
    proposer = ask(server, timeout=0.2, retries=1)
    started = time.monotonic()
    with pytest.raises(ProposerFailure, match="no answer within") as raised:
        proposer.propose(Prompt("p"), 2, 1)
    assert raised.value.kind == "timeout"
    assert time.monotonic() - started < 5


def test_retry_after_is_kept_to(server):
    server.retry_after = "0.4"
    server.plan("429")
    ask(server).propose(Prompt("p"), 1, 1)
    assert server.times[1] - server.times[0] >= 0.4


def test_an_endless_retry_after_is_capped(server, monkeypatch):
    monkeypatch.setattr("llmsr.proposers.service.LONGEST_WAIT_SECONDS", 0.1)
    server.retry_after = "86400"
    server.plan("429")
    assert len(ask(server).propose(Prompt("p"), 1, 1)) == 1


def test_closing_ends_a_wait(server):
    import threading

    server.retry_after = "50"
    server.always = "429"
    proposer = ask(server, retries=1)
    threading.Timer(0.3, proposer.close).start()
    started = time.monotonic()
    with pytest.raises(ProposerFailure):
        proposer.propose(Prompt("p"), 1, 1)
    assert time.monotonic() - started < 5


def test_a_server_that_goes_away_in_mid_run_is_a_failure_of_the_prompt():
    with FakeServer() as fake:
        proposer = ask(fake, retries=1)
        assert len(proposer.propose(Prompt("p"), 1, 1)) == 1
    with pytest.raises(ProposerFailure) as raised:
        proposer.propose(Prompt("p"), 1, 1)
    assert raised.value.kind == "connection"


# ---- what servers do not know


def test_a_server_that_refuses_n_is_asked_one_by_one_from_then_on(server):
    server.always = "no n"
    proposer = ask(server)
    assert len(proposer.propose(Prompt("p"), 3, 10)) == 3
    assert [asked.get("n") for _, _, asked in server.requests] == [3, None, None, None]
    assert sorted(asked["seed"] for _, _, asked in server.requests[1:]) == [10, 11, 12]
    assert len(proposer.propose(Prompt("p"), 3, 10)) == 3
    assert len(server.requests) == 7


def test_a_server_that_ignores_n_is_asked_for_the_rest(server):
    server.always = "one choice"
    assert len(ask(server).propose(Prompt("p"), 4, 1)) == 4
    assert len(server.requests) == 4


def test_a_server_without_seeds_is_served_without(server, caplog):
    server.always = "no seed"
    proposer = ask(server)
    with caplog.at_level(logging.WARNING):
        assert len(proposer.propose(Prompt("p"), 2, 1)) == 2
    assert "seed" not in server.requests[-1][2]
    assert "seed" in caplog.text


def test_models_that_name_the_token_limit_otherwise_are_served(server):
    server.always = "new limit"
    assert len(ask(server, max_tokens=99).propose(Prompt("p"), 2, 1)) == 2
    assert server.requests[-1][2]["max_completion_tokens"] == 99


@pytest.mark.parametrize("fault", ["no chat", "404"])
def test_auto_mode_takes_raw_completions_where_the_model_does_not_chat(server, fault):
    server.plan(fault)
    proposer = ask(server)
    assert len(proposer.propose(Prompt("p"), 2, 1)) == 2
    assert [path for path, _, _ in server.requests] == ["/v1/chat/completions", "/v1/completions"]


def test_a_refusal_that_nothing_mends_is_a_user_error(server):
    server.always = "400"
    with pytest.raises(UserError, match="status 400"):
        ask(server, api_mode="chat").propose(Prompt("p"), 2, 1)
    assert len(server.requests) <= 3


def test_a_server_without_a_model_list_is_served(server):
    server.lists_models = False
    assert len(ask(server, api_model=MODEL).propose(Prompt("p"), 2, 1)) == 2


# ---- keys


@pytest.mark.parametrize("fault", [*FAULTS, "401", "400", "redirect"])
def test_keys_appear_in_no_error_and_no_log(server, fault, caplog, capfd):
    server.always = fault
    with caplog.at_level(logging.DEBUG), pytest.raises((UserError, ProposerFailure)) as raised:
        ask(server).propose(Prompt("p"), 2, 1)
    shown = str(raised.value) + repr(raised.value) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in shown
    assert KEY[3:] not in shown


def test_a_password_in_the_base_is_not_shown():
    with pytest.raises(UserError) as raised:
        make_proposer(ProposerConfig(proposer="openai", api_base="http://me:hunter22@127.0.0.1:9/v1"))
    assert "hunter22" not in str(raised.value)


def test_scrubbing_knows_the_usual_spellings_and_terminal_escapes():
    text = 'Authorization: Bearer abc.def {"api_key": "zzz"} sk-12345678 http://u:p@h/ \x1b[31mred\nline'
    shown = scrubbed(text, ("abc",))
    assert not any(secret in shown for secret in ("abc", "zzz", "12345678", "u:p", "\x1b", "\n"))


# ---- LLM-SR's local engine


def engine(server, **settings):
    return make_proposer(ProposerConfig(**({"port": server.port, "retries": 1, "timeout": 5.0} | settings)))


def test_the_local_engine_is_asked_by_its_own_protocol(server):
    completions = engine(server, temperature=0.5).propose(Prompt("the prompt"), 3, 7)
    assert [c.text for c in completions] == [BODY] * 3
    path, _, asked = server.requests[0]
    assert path == "/completions"
    assert (asked["prompt"], asked["repeat_prompt"]) == ("the prompt", 3)
    assert asked["params"]["temperature"] == 0.5


@pytest.mark.parametrize("fault", ["429", "500", "garbage", "html", "deep", "null choices", "half", "reset"])
def test_faults_of_the_local_engine_are_retried_then_counted(server, fault):
    server.plan(fault)
    assert len(engine(server).propose(Prompt("p"), 2, 1)) == 2
    server.always = fault
    with pytest.raises(ProposerFailure, match="tried 2 times"):
        engine(server).propose(Prompt("p"), 2, 1)


def test_a_local_engine_that_hangs_ends_with_the_timeout(server):
    server.always = "hang"
    with pytest.raises(ProposerFailure) as raised:
        engine(server, timeout=0.2).propose(Prompt("p"), 2, 1)
    assert raised.value.kind == "timeout"


@pytest.mark.parametrize("fault", ["404", "redirect"])
def test_what_is_no_local_engine_is_a_user_error(server, fault):
    server.always = fault
    with pytest.raises(UserError, match="engine"):
        engine(server).propose(Prompt("p"), 2, 1)


def test_no_local_engine_is_a_user_error():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="--port"):
            make_proposer(ProposerConfig(port=unused.getsockname()[1])).propose(Prompt("p"), 1, 1)


# ---- replay


def replay(path: Path, *lines: object):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return make_proposer(ProposerConfig(replay_path=str(path)))


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


def test_replay_hands_out_in_order_then_nothing(tmp_path):
    proposer = replay(tmp_path / "r.jsonl", *({"completion": str(i), "id": i} for i in range(5)), "")
    assert texts(proposer.propose(Prompt("p"), 3, 0)) == ["0", "1", "2"]
    assert texts(proposer.propose(Prompt("q"), 3, 0)) == ["3", "4"]
    assert proposer.propose(Prompt("q"), 3, 0) == []


def test_replay_skips_what_a_resumed_run_has(tmp_path):
    proposer = replay(tmp_path / "r.jsonl", *({"completion": str(i)} for i in range(5)))
    proposer.skip(3)
    assert texts(proposer.propose(Prompt("p"), 1, 0)) == ["3"]
    proposer.skip(10)
    assert proposer.propose(Prompt("p"), 1, 0) == []


@pytest.mark.parametrize("line", ["{", "[1]", '{"completion": 3}', '{"text": "x"}', "[" * 100_000])
def test_a_faulty_line_is_named(tmp_path, line):
    proposer = replay(tmp_path / "r.jsonl", {"completion": "a"}, "", line)
    proposer.propose(Prompt("p"), 1, 0)
    with pytest.raises(UserError, match=r"r\.jsonl, line 3"):
        proposer.propose(Prompt("p"), 1, 0)


def test_replay_takes_recorded_tokens_and_guesses_others(tmp_path):
    proposer = replay(tmp_path / "r.jsonl", {"completion": "a", "tokens": 9}, {"completion": "a b c d"})
    first, second = proposer.propose(Prompt("p"), 2, 0)
    assert (first.tokens, first.tokens_estimated) == (9, False)
    assert second.tokens_estimated


def test_a_missing_or_binary_replay_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="--replay_path"):
        make_proposer(ProposerConfig(replay_path=str(tmp_path / "none.jsonl")))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="UTF-8"):
        make_proposer(ProposerConfig(replay_path=str(tmp_path / "b.jsonl"))).propose(Prompt("p"), 1, 0)


# ---- which proposer


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "skeleton-lm"),
        ({"model_path": "m"}, "transformers"),
        ({"use_api": True, "model_path": "m"}, "openai"),
        ({"api_base": "http://h/v1"}, "openai"),
        ({"port": 5000}, "local-engine"),
        ({"replay_path": "f", "use_api": True}, "replay"),
        ({"proposer": "vllm", "replay_path": "f"}, "vllm"),
    ],
)
def test_auto_takes_what_the_other_settings_mean(settings, name):
    assert chosen_proposer(ProposerConfig(**settings)) == name


@pytest.mark.parametrize(
    "settings",
    [
        {"proposer": "opnai"},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"max_tokens": 0},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"retries": -1},
        {"proposer": "replay"},
        {"proposer": "transformers"},
        {"proposer": "vllm"},
        {"port": 70000},
        {"gpu_memory_utilization": 0.0},
    ],
)
def test_settings_without_sense_are_user_errors(settings):
    with pytest.raises(UserError):
        make_proposer(ProposerConfig(**settings))


def test_the_light_proposers_import_no_heavy_library():
    code = textwrap.dedent("""
        import sys, llmsr.proposers.proposer, llmsr.proposers.service
        import llmsr.proposers.openai_compatible, llmsr.proposers.vllm_server
        print([m for m in ("torch", "transformers", "openai", "pandas") if m in sys.modules])
    """)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_stop_at_the_very_start_does_not_empty_the_completion():
    assert (
        cut_at_stops("\ndef equation_v2(x):\n    return x\n\ndef g():")
        == "\ndef equation_v2(x):\n    return x\n"
    )


# ---- vllm, played by a small script


FAKE_VLLM = """\
#!{python}
import sys, os, time, subprocess
sys.path[:0] = [{root!r}, {root!r} + '/tests/support']
{before}
from http.server import ThreadingHTTPServer
import fake_server
fake = fake_server.FakeServer(models=("model",))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
port = int(sys.argv[sys.argv.index("--port") + 1])
handler = type("Handler", (fake_server._Handler,), {{"fake": fake}})
ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    def install(before: str = "") -> None:
        script = tmp_path / "vllm"
        root = str(Path(__file__).parents[2])
        script.write_text(FAKE_VLLM.format(python=sys.executable, root=root, before=before))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nobody waits for a hub that is out of reach
        monkeypatch.setattr("tempfile.tempdir", None)

    return install


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and lives(pid):
        time.sleep(0.05)
    return not lives(pid)


def test_vllm_is_started_asked_for_raw_completions_and_stopped_with_its_children(vllm):
    vllm()
    proposer = make_proposer(
        ProposerConfig(
            proposer="vllm",
            model_path="some/model",
            gpu_memory_utilization=0.25,
            vllm_args="--max-model-len 2048 --served-by 'two words'",
        )
    )
    try:
        assert texts(proposer.propose(Prompt("p"), 3, 1)) == [BODY] * 3
        child = int(proposer.log_path.read_text().split()[1])
        server = proposer._process.pid
        assert lives(child)
        told = Path(f"/proc/{server}/cmdline").read_text().split("\0")
        assert told[told.index("--gpu-memory-utilization") + 1] == "0.25"
        assert told[told.index("--max-model-len") :][:4] == [
            "--max-model-len",
            "2048",
            "--served-by",
            "two words",
        ]
    finally:
        proposer.close()
    assert ends_within(server, 5)
    assert ends_within(child, 5)


def test_arguments_for_vllm_that_end_within_a_quotation_are_refused(vllm):
    vllm()
    with pytest.raises(UserError, match=r"--vllm_args.*No closing quotation"):
        make_proposer(ProposerConfig(proposer="vllm", model_path="some/model", vllm_args="--x 'open"))


def test_vllm_that_fails_shows_its_last_words_in_one_line(vllm):
    vllm("print('ValueError: this model is not supported'); sys.exit(3)")
    with pytest.raises(UserError, match=r"code 3.*this model is not supported") as raised:
        make_proposer(ProposerConfig(proposer="vllm", model_path="some/model"))
    assert "\n" not in str(raised.value)


def test_vllm_that_never_gets_healthy_is_given_up_and_stopped(vllm):
    from llmsr.proposers.vllm_server import VLLMServer

    vllm("print('pid', os.getpid(), flush=True); time.sleep(600)")
    with pytest.raises(UserError, match="did not serve some/model within") as raised:
        VLLMServer(ProposerConfig(proposer="vllm", model_path="some/model"), start_seconds=1.5)
    log = str(raised.value).rsplit("(log: ", 1)[1].rstrip(")")
    assert ends_within(int(Path(log).read_text().split()[1]), 5)


def test_vllm_that_dies_in_mid_run_is_a_user_error(vllm):
    vllm()
    proposer = make_proposer(ProposerConfig(proposer="vllm", model_path="some/model"))
    try:
        os.killpg(proposer._process.pid, signal.SIGKILL)
        proposer._process.wait()
        with pytest.raises(UserError, match="ended during the run"):
            proposer.propose(Prompt("p"), 1, 1)
    finally:
        proposer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal is Linux's")
def test_vllm_ends_when_its_parent_is_killed(vllm, tmp_path):
    vllm()
    code = textwrap.dedent("""
        import os, time
        from llmsr.proposers.choice import make_proposer
        from llmsr.settings import ProposerConfig
        proposer = make_proposer(ProposerConfig(proposer="vllm", model_path="some/model"))
        print(proposer._process.pid, flush=True)
        time.sleep(600)
    """)
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert ends_within(server, 5)


def test_no_vllm_is_a_user_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="vllm is not installed"):
        make_proposer(ProposerConfig(proposer="vllm", model_path="some/model"))
