"""Pictures for vision models: what is drawn, and how a server is shown it."""

import base64
import io

import numpy as np
import pytest
from fake_server import FakeServer
from matplotlib.image import imread

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.pictures import picture_of
from llmsr.problem.loading import load_problem
from llmsr.prompt import Picture, Version
from llmsr.proposers.choice import make_proposer
from llmsr.search.search import Search
from llmsr.settings import ProposerConfig, SearchSettings

LINE = Version("return params[0] * x", -1.0, params=(-0.2, *[1.0] * 9))
EXACT = Version("return params[0] * x + params[1] * v", -1.0, params=(-0.2, -0.1, *[1.0] * 8))


@pytest.fixture(scope="module")
def problem():
    return load_problem("oscillator1")


def pixels(picture):
    return imread(io.BytesIO(picture.png), format="png")


def test_equal_prompts_have_equal_pictures_and_other_residuals_others(problem):
    first, again = picture_of(problem, [EXACT, LINE]), picture_of(problem, [LINE])
    assert first.png == again.png
    assert not np.array_equal(pixels(first), pixels(picture_of(problem, [EXACT])))
    assert len(first.png) < 60_000


def test_the_lower_row_is_of_the_last_equation(problem):
    with_residuals, alone = pixels(picture_of(problem, [LINE])), pixels(picture_of(problem, []))
    assert with_residuals.shape[0] == 2 * alone.shape[0]
    # one that cannot be read, or is not finite, has no residuals to show
    unread = picture_of(problem, [Version("return nothing", -1.0, params=LINE.params)])
    assert unread == picture_of(problem, [])
    assert "a against x, v" in unread.words
    assert "lower row" in picture_of(problem, [LINE]).words


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


def searched(problem, server):
    settings = SearchSettings(budget=2, samples_per_prompt=2, refine="off", lookahead=1, vision=True)
    proposer = make_proposer(ProposerConfig(api_base=server.base, retries=0))
    with Evaluator(problem, workers=1) as evaluator:
        return Search(problem, proposer, evaluator, [], settings).run()


def test_a_server_is_shown_the_picture_in_the_users_message(problem, server):
    assert searched(problem, server).valid == 2
    asked = server.requests[-1][2]
    user = next(message for message in asked["messages"] if message["role"] == "user")
    said, image, words = user["content"]
    assert said["type"] == words["type"] == "text"
    assert "Columns:" in said["text"]
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert pixels(Picture(base64.b64decode(data), "")).ndim == 3
    assert words["text"].startswith("The picture shows")


def test_who_sees_no_pictures_is_said(problem, server):
    server.refuse = lambda asked: "image" in str(asked["messages"]) and "image_url needs a multimodal model"
    with pytest.raises(UserError, match=r"sees no pictures .* leave out --vision"):
        searched(problem, server)
    grammar = make_proposer(ProposerConfig(proposer="grammar"))
    with (
        Evaluator(problem, workers=1) as evaluator,
        pytest.raises(UserError, match="--vision needs a server"),
    ):
        Search(problem, grammar, evaluator, [], SearchSettings(vision=True))
