"""Reading a body out of what models answer, in every shape, and out of texts made to hang or crash."""

from __future__ import annotations

import ast
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsr.completion import MAX_TEXT, Body, NoBody, read_completion

BODY = "a = params[0] * x\nreturn a + params[1] * v\n"
INDENTED = textwrap.indent(BODY, "    ")
FUNCTION = f'def equation_v2(x, v, params):\n    """Improved version of `equation_v1`."""\n{INDENTED}'
DOCSTRING = '"""Improved version of `equation_v1`."""\n'


def body(text: str) -> str:
    found = read_completion(text)
    assert isinstance(found, Body), found
    return found.text


BARE = {
    "indented": INDENTED,
    "first indent missing": INDENTED.lstrip(),
    "first indent one space short": INDENTED[1:],
    "no indent": BODY,
    "only the first line indented": "    " + BODY,
    "eight spaces": textwrap.indent(BODY, "        "),
    "tabs": textwrap.indent(BODY, "\t"),
    "carriage returns": INDENTED.replace("\n", "\r\n"),
    "old Macintosh": INDENTED.replace("\n", "\r"),
    "byte order mark": "\ufeff" + INDENTED,
    "empty lines before": "\n\n" + INDENTED,
    "no last newline": INDENTED.rstrip("\n"),
    "next function": INDENTED + "\n\ndef equation_v3(x, v, params):\n    return 0 * x\n",
    "next function without gap": INDENTED + "def equation_v3(x, v, params):\n    return 0 * x\n",
    "class behind": INDENTED + "\nclass Next:\n    pass\n",
    "main behind": INDENTED + '\nif __name__ == "__main__":\n    print(1)\n',
    "decorator behind": INDENTED + "\n@evaluate.run\ndef evaluate(data):\n    return 1\n",
    "fence behind": INDENTED + "```\n\nThis is the harmonic oscillator.\n",
    "prose behind": INDENTED + "\nThis equation has a linear term, don't you think?\n",
    "dead code behind": INDENTED + "    return x\n    b = (\n",
    "code cut off behind": INDENTED + "\n\ndef equation_v3(x, v, par",
    "end of turn": INDENTED + "<|im_end|>\n<|im_start|>user\nmore<|im_end|>",
    "end of text": INDENTED + "<|endoftext|>def f(x):\n    return 1",
    "end of sentence": INDENTED + "</s>",
    "turn before": "<|im_start|>assistant\n" + INDENTED + "<|im_end|>",
    "fence": f"```python\n{INDENTED}```",
    "fence, no indent": f"```\n{BODY}```\n",
    "fence with tildes": f"~~~python\n{BODY}~~~\n",
    "fence in prose": f"Sure! Here's the body:\n\n```python\n{INDENTED}```\n\nIt's linear; don't worry.",
    "open fence": f"Sure!\n```python\n{INDENTED}",
    "below prose": f"Here's the improved body:\n\n{INDENTED}\nThis captures damping.",
    "below prose, no indent": f"Here is the improved body, with x and v:\n\n{BODY}\nThis captures damping.",
    "reasoning": f"<think>\nreturn x? or ```python\nreturn v\n```\n</think>\n\n{INDENTED}",
    "reasoning opened in the prompt": f"Let me think. return x.\n</think>\n\n{INDENTED}",
    "thinking": f"<thinking>so</thinking>```python\n{INDENTED}```",
    "channels": "<|channel|>analysis<|message|>return x<|end|><|channel|>final<|message|>"
    f"{INDENTED}<|return|>",
    "json": '{"thought": "return early", "code": "    a = params[0] * x\\n    return a + params[1] * v"}',
    "json in a fence": '```json\n{"body": "a = params[0] * x\\nreturn a + params[1] * v"}\n```',
    "json string": '"a = params[0] * x\\nreturn a + params[1] * v\\n"',
}


@pytest.mark.parametrize("text", BARE.values(), ids=BARE.keys())
def test_a_bare_body_is_found(text):
    assert read_completion(text) == Body(BODY, None)


WHOLE = {
    "alone": FUNCTION,
    "imports above": f"import numpy as np\n\n{FUNCTION}",
    "indented as a whole": textwrap.indent(FUNCTION, "    "),
    "fence in prose": f"Sure!\n\n```python\nimport numpy as np\n\n{FUNCTION}```\nDone.",
    "two fences, the last counts": f"```python\n{FUNCTION.replace('x', 'v')}```\nBetter:\n```\n{FUNCTION}```",
    "all versions again": "def equation_v0(x, v, params):\n    return x\n\n"
    f"def equation_v1(x, v, params):\n    return v\n\n{FUNCTION}",
    "cut off version behind": f"{FUNCTION}\n\ndef equation_v3(x, v, params):\n    a = np.sin(",
    "reasoning": f"<think>def equation_v2(x, v, params):\n    return 1\n</think>\n{FUNCTION}",
    "reasoning without end": f"<think>maybe\n\n{FUNCTION}\nor not",
    "turns": f"<|im_start|>assistant\n{FUNCTION}<|im_end|>",
    "call behind": f"{FUNCTION}\nprint(equation_v2(1, 2, [3, 4]))\n",
    "prose behind": f"{FUNCTION}\nIt's a function that you'll like (really.\n",
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE.keys())
def test_the_last_complete_function_is_found(text):
    assert read_completion(text) == Body(DOCSTRING + BODY, ("x", "v", "params"))


def test_a_return_that_ends_in_an_operator_goes_on_below():
    text = "    return params[0] * x +  # one\n        params[1] * v\n"
    body = "return params[0] * x +  # one\n    params[1] * v\n"
    assert read_completion(text) == Body(body, None)
    assert read_completion(f"def equation(x, v, params):\n{text}\nSo.") == Body(body, ("x", "v", "params"))


def test_renamed_arguments_come_with_the_body():
    header = (
        "def equation(pos: np.ndarray, vel: 'np.ndarray' = (1, [2]), p: dict[str, int] = None) -> tuple:\n"
    )
    text = header + "    return pos\n"
    assert read_completion(text) == Body("return pos\n", ("pos", "vel", "p"))


def test_a_header_over_several_lines_and_a_method_are_read():
    header = (
        "def equation_v7(\n    x: np.ndarray,  # m (\n    v: np.ndarray,\n    params,\n) -> np.ndarray:\n"
    )
    assert read_completion(header + INDENTED) == Body(BODY, ("x", "v", "params"))
    method = "class Model:\n    def equation(self, x, v, params):\n" + textwrap.indent(INDENTED, "    ")
    assert read_completion(method) == Body(BODY, ("x", "v", "params"))


def test_a_function_on_one_line_is_read():
    assert read_completion("def equation(x, params): return params[0] * x") == Body(
        "return params[0] * x\n", ("x", "params")
    )


@pytest.mark.parametrize(
    "lines",
    [
        ["if p[0] > 0: return x", "else: return v*v"],
        ["a = p[0]; b = p[1]; return a*x + b*v"],
        ['"""Two returns: here we return x."""; return x'],
        ["with np.errstate(all='ignore'): return p[0] * x"],
        ["for i in range(3):", "    if p[i] > 0: return x", "return v"],
    ],
)
def test_the_names_of_a_function_count_wherever_its_return_stands(lines):
    inside = "\n".join(lines) + "\n"
    text = "def equation(v, x, p):\n" + textwrap.indent(inside, "    ")
    assert read_completion(text) == Body(inside, ("v", "x", "p"))
    assert read_completion(f"Like this:\n\n{text}") == Body(inside, ("v", "x", "p"))


def test_a_function_on_one_line_may_hold_several_statements():
    assert read_completion("def equation(v, p): a = p[0]; return a * v") == Body(
        "a = p[0]; return a * v\n", ("v", "p")
    )


def test_the_return_of_a_helper_on_one_line_is_none_of_the_functions():
    cut = "def equation(x, params):\n    def f(t): return t * t\n    y = f(x"
    assert read_completion(f"def equation(x, params):\n    return x\n\n{cut}").text == "return x\n"


def test_starred_arguments_leave_the_names_to_the_prompt():
    assert read_completion("def equation(*columns, params):\n    return 1\n") == Body("return 1\n", None)


def test_a_function_by_another_name_counts_if_there_is_no_other():
    assert body("def improved(x, v, params):\n    return x\n") == "return x\n"
    assert body("def equation(x, params):\n    return x\n\ndef test(x):\n    return 2\n") == "return x\n"


def test_a_return_in_backticks_is_found_where_there_is_nothing_else():
    assert body("The best body is `return params[0] * x`.") == "return params[0] * x\n"
    assert body(f"Not `return x`, but:\n{INDENTED}") == BODY


LAMBDA = "params[0] * x + params[1] * v**3"
LAMBDAS = {
    "bare": f"equation = lambda x, v, params: {LAMBDA}",
    "fence": f"```python\nequation = lambda x, v, params: {LAMBDA}\n```",
    "version": f"Better:\n\nequation_v2 = lambda x, v, params: {LAMBDA}\n\nIt has a cubic term.",
    "annotated": f"equation: Callable = lambda x, v, params: {LAMBDA}",
    "brackets": f"equation = (lambda x, v, params: {LAMBDA})",
    "no name": f"```\nlambda x, v, params: {LAMBDA}\n```",
    "two": f"equation = lambda x, v, params: x\nequation = lambda x, v, params: {LAMBDA}",
}


@pytest.mark.parametrize("text", LAMBDAS.values(), ids=LAMBDAS.keys())
def test_a_lambda_is_read_as_the_function_that_it_is(text):
    found = read_completion(text)
    assert isinstance(found, Body)
    assert found.text.replace("(params", "params").replace("**3)", "**3") == f"return {LAMBDA}\n"
    assert found.arguments == ("x", "v", "params")


def test_a_lambda_over_several_lines_is_whole():
    text = "equation = (lambda x, v, params:\n    params[0] * x\n    + params[1] * v)"
    assert ast.unparse(ast.parse(f"def f():\n    {body(text)}")).endswith("params[0] * x + params[1] * v")


def test_a_helper_that_is_a_lambda_is_no_equation():
    assert isinstance(read_completion("sq = lambda t: t * t\n"), NoBody) or "lambda" in body(
        "sq = lambda t: t * t\n"
    )
    assert body("    sq = lambda t: t * t\n    return sq(x)\n") == "sq = lambda t: t * t\nreturn sq(x)\n"


NEW = "return params[0] * x + params[1] * v**3"
DIFFS = {
    "search and replace": f"<<<<<<< SEARCH\n    return x\n=======\n    {NEW}\n>>>>>>> REPLACE",
    "in a fence": f"Sure:\n```\n<<<<<<< SEARCH\n    return x\n=======\n    {NEW}\n>>>>>>> REPLACE\n```",
    "conflict marks": f"<<<<<<< old\n    return x\n=======\n    {NEW}\n>>>>>>> new\n",
    "cut off": f"<<<<<<< SEARCH\n    return x\n=======\n    {NEW}\n",
    "unified": f"```diff\n@@ -1,2 +1,2 @@\n-    return x\n+    {NEW}\n```",
    "files": f"--- a/equation.py\n+++ b/equation.py\n@@ -3 +3 @@\n-    return x\n+    {NEW}\n",
    "no marks": f"-    return x\n+    {NEW}\n",
    "context": f'```diff\n@@ -1,3 +1,3 @@\n     """A law."""\n-    return x\n+    {NEW}\n```',
}


@pytest.mark.parametrize("text", DIFFS.values(), ids=DIFFS.keys())
def test_the_new_side_of_a_diff_is_read(text):
    assert body(text).removeprefix('"""A law."""\n') == f"{NEW}\n"


def test_a_whole_function_on_the_new_side_is_read():
    old = "def equation(x, v, params):\n    return x\n"
    assert body(f"<<<<<<< SEARCH\n{old}=======\n{FUNCTION}>>>>>>> REPLACE") == DOCSTRING + BODY
    lines = [*(f"-{line}" for line in old.splitlines()), *(f"+{line}" for line in FUNCTION.splitlines())]
    assert body("```diff\n" + "\n".join(lines) + "\n```") == DOCSTRING + BODY


PART = "<<<<<<< SEARCH\n    a = x\n=======\n    a = v\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    "text",
    [
        PART,
        PART + f"<<<<<<< SEARCH\n    return a\n=======\n    {NEW}\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\n    return x\n",
        "@@ -1 +1 @@\n-    a = x\n+    a = v\n     return a * (\n",
    ],
)
def test_a_diff_that_is_no_whole_body_is_refused_with_its_reason(text):
    found = read_completion(text)
    assert isinstance(found, NoBody)
    assert found.kind == "unsupported"
    assert "diff" in found.reason


@pytest.mark.parametrize(
    "line",
    [
        "params[0] x v", "x = x shifted by params[0]", "float a = params[0];", "let k = params[0]", "x² = x²",
        "if x > 0", "if x > 0\n        x = 3", "for i in range(3) x = 2 * x",
        "def f(t) t * t", "x =", "1x = x", "x squared", "x :="
    ],
)  # fmt: skip
def test_a_leading_line_that_is_no_python_is_never_cut_off(line):
    for before, after in (("", ""), ("```python\n", "\n```"), ("Here it is:\n\n", "")):
        assert body(f"{before}    {line}\n    return params[1] * x{after}").startswith(line.split("\n")[0])


@pytest.mark.parametrize("line", ["Here is the body:", "The damping is x = 3.", "- linear in x", "So:"])
def test_prose_directly_above_a_body_is_none_of_it(line):
    assert body(f"{line}\n    return x\n") == "return x\n"


def test_the_functions_name_may_be_any():
    text = "def f_v1(x):\n    return 1\n\ndef equation(x):\n    return 2\n"
    found = read_completion(text, "f")
    assert isinstance(found, Body)
    assert found.text == "return 1\n"


def test_helpers_and_constants_that_are_used_move_inside():
    text = (
        "from scipy.special import erf\nK = 2.0\nUNUSED = 3\n\ndef outer(a):\n    return inner(a) * K\n\n"
        "def inner(a):\n    return erf(a)\n\ndef idle(a):\n    return a\n\n"
        "def equation(x, params):\n    return outer(x)\n\nx = 7\n"
    )
    tree = ast.parse(f"def f():\n{textwrap.indent(body(text), '    ')}").body[0]
    assert isinstance(tree, ast.FunctionDef)
    names = {getattr(node, "name", None) for node in tree.body}
    assert {"outer", "inner"} <= names
    assert "idle" not in names
    assert "UNUSED" not in body(text)
    assert "K = 2.0" in body(text)
    assert "import erf" in body(text)
    assert body(text).endswith("return outer(x)\n")


def test_code_that_tries_the_equation_out_does_not_replace_its_arguments():
    text = "x = np.linspace(0, 1)\nparams = [1.0]\n\ndef equation(x, params):\n    return params[0] * x\n"
    assert body(text) == "return params[0] * x\n"


def test_helpers_nested_in_the_body_stay_where_they_are():
    text = "    def f(a):\n        return a\n    return f(x)\n"
    assert body(text) == "def f(a):\n    return a\nreturn f(x)\n"
    assert body(text.lstrip()) == body(text)


def test_blocks_at_the_start_without_their_first_indent_are_understood():
    assert body("if True:\n        b = x\n    return b\n") == "if True:\n    b = x\nreturn b\n"
    assert body("for i in range(2):\n    b = x\nreturn b\n") == "for i in range(2):\n    b = x\nreturn b\n"


def test_lines_joined_by_brackets_quotes_and_backslashes_stay_together():
    text = (
        "    a = (x +\nv)\n    s = '''\nreturn 1\n'''\n    b = a \\\n  + x\n    return b  # done\n\nNo more."
    )
    assert body(text).endswith("return b  # done\n")
    assert "return 1" in body(text)


def test_a_return_in_every_branch_ends_with_the_branches():
    text = "    if c:\n        return x\n    else:\n        return v\n\nThat is all.\n"
    assert body(text) == "if c:\n    return x\nelse:\n    return v\n"


def test_a_text_that_is_cut_off_gives_what_there_is():
    assert (
        body("    a = params[0] * x\n    return np.where(x > 0,")
        == "a = params[0] * x\nreturn np.where(x > 0,\n"
    )
    assert body("def equation(x, params):\n    a = x\n    b = (a") == "a = x\nb = (a\n"


NOTHING = [
    "",
    " \n\t ",
    "\ufeff",
    "<think>hm",
    "<think>return x</think>",
    "<|im_end|>",
    "```python\n```",
    "{}",
    "[]",
    "null",
]
NOTHING += [
    "The acceleration is proportional to the displacement.",
    "\\[ a = -k x - c v \\]",
    "$$a = -kx$$ where $k$ is the stiffness.",
    "return to sender, if you know what I mean",
    "I cannot help with that: for a start, we have no data.",
    "params[0] * x",
    "def equation(x, params):",
]


@pytest.mark.parametrize("text", NOTHING)
def test_no_body_is_a_value_with_a_reason(text):
    found = read_completion(text)
    assert isinstance(found, NoBody)
    assert found.kind == "empty"
    assert found.reason


def test_a_text_beyond_the_limit_is_refused_unread():
    found = read_completion("    return x\n" + " " * MAX_TEXT)
    assert isinstance(found, NoBody)
    assert found.kind == "too_large"


HOSTILE = [
    "(",
    "'",
    '"""\n',
    "```\n",
    "~~~",
    "<think>",
    "</think>",
    "    \n",
    "a = (\n",
    "\\",
    '{"a":',
    "[",
    " return x\n",
    "<|",
    "<|a|>",
    "if x:\n",
    "\t",
    "import a\n",
    "def equation(\n",
    "def equation(a):\n return b(\n",
    "a'",
    "#",
    "'\\",
    "x = 1 the\n",
    "abc ",
    "    def equation(x):\n",
    "return (\n",
    "@a\n",
    "x = '''\n",
    "\x00",
    "\ufeff",
    "\r",
    "é = ",
    "f(lambda: ",
    "=",
    "a=b=",
    ": ",
    "<<<<<<< SEARCH\n",
    "=======\n",
    "- return x\n",
    "@@ -1 +1 @@\n",
    "equation = lambda x: ",
    "equation = lambda x: x\n",
    "    x y\n",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_thousands_of_repetitions_take_little_time(piece):
    text = (piece * (60_000 // len(piece)))[:60_000]
    started = time.process_time()
    for around in ("", "    return x\n", "def equation(x):\n    return f(x)\n"):
        read_completion(around + text)
        read_completion(text + "\n" + around)
    assert time.process_time() - started < 6.0


def test_deep_and_chained_definitions_take_little_time():
    nested = "\n".join(" " * i + f"def equation_v{i}(x):" for i in range(600))
    chain = (
        "".join(f"def a{i}(): return a{i - 1}()\n" for i in range(6000)) + "def equation(x):\n return a5999()"
    )
    constants = "".join(f"a{i} = a{i - 1}\n" for i in range(12000)) + "def equation(x):\n return a11999"
    started = time.process_time()
    for text in (nested, chain, constants):
        read_completion(text)
    assert time.process_time() - started < 6.0


PIECES = st.sampled_from(
    [
        "def equation(x, params):\n",
        "    ",
        "return x",
        "\n",
        "```python\n",
        "```",
        "<think>",
        "</think>",
        '"""',
        "'",
        "(",
        ")",
        "a = ",
        "if x:\n",
        "# c",
        "\\",
        "def f(a):\n",
        "<|im_end|>",
        "{",
        "}",
        '"',
        "\t",
        "class A:\n",
        "f(x)",
        "import y\n",
        "prose it is ",
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_a_body_or_a_reason(text):
    found = read_completion(text)
    assert isinstance(found, Body | NoBody)
    if isinstance(found, Body):
        assert found.text.strip()
        assert "\r" not in found.text


SIMPLE = st.sampled_from(
    [
        "a = params[0] * x",
        "b = np.where(x > 0,\n    x,\n    v)",
        "# a remark",
        "for i in range(3):\n    a = a + i",
        "c: float = 1.0",
    ]
)


@given(
    st.lists(SIMPLE, max_size=5),
    st.sampled_from([4, 2, 8]),
    st.sampled_from(["", "\n\ndef g():\n    pass", "\n```\nbye"]),
)
@settings(max_examples=150, deadline=None)
def test_what_python_reads_in_an_indented_body_is_what_is_found(statements, width, tail):
    code = "\n".join([*statements, "return x"])
    found = body(textwrap.indent(code, " " * width) + tail)
    assert ast.dump(ast.parse("def f():\n" + textwrap.indent(found, " "))) == ast.dump(
        ast.parse("def f():\n" + textwrap.indent(code, " "))
    )


def test_reading_executes_nothing(tmp_path):
    target = tmp_path / "touched"
    read_completion(f"def equation(x, params=open({str(target)!r}, 'w')):\n    return __import__('os')\n")
    assert not target.exists()
