"""A spec: the text file, in LLM-SR's format, that states a problem and how an equation is scored."""

from __future__ import annotations

import ast
import difflib
import inspect
import io
import textwrap
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llmsr.declarations import Declarations, declared, is_declaration, read_declarations, with_declarations
from llmsr.errors import UserError
from llmsr.expression import Expression, Refusal, parse
from llmsr.expression.form import Form
from llmsr.expression.reader.values import Dialect
from llmsr.expression.repair import repaired
from llmsr.problem.objective import first_other_line, module_constants, ones_length
from llmsr.problem.template import Template

RUN, EVOLVE = "run", "evolve"
MAX_PARAMS_LIMIT = 1000
_MAX_TEXT = 1_000_000
_DECLARATION = "# llmsr: least_squares"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Spec:
    """What a spec file says; the text was parsed, never executed.

    `preface` is the text above the first decorated function, `header` the evolved function's header as
    written (without `async`), `seed_body` its dedented body without the docstring. `own_search` is the line,
    with its number, that makes `evaluate` another objective than the mean squared error of the equation
    minimised by scipy's BFGS from ones; it is empty where `evaluate` is that, and when in doubt it is not.
    `asked` is what its comments declare, such as a loss that is minimised whatever `evaluate` says, `form`
    what of it equations are held to; with a `template` the seed is its own.
    `constants` holds the numbers that the module defines, `units` the texts of a comment such as
    `# llmsr: units t=s; v=m/s`.
    """

    path: str
    text: str
    preface: str
    function_name: str
    columns: tuple[str, ...]
    params_name: str
    header: str
    docstring: str
    seed_body: str
    evaluate_name: str
    max_params: int
    dialect: Dialect
    own_search: str
    asked: Declarations
    constants: Mapping[str, int | float]
    units: Mapping[str, str]
    form: Form
    template: Template | None = None

    @property
    def least_squares(self) -> bool:
        """Whether constants minimise a mean loss of residuals, by whichever optimiser is best."""
        return bool(self.asked.loss) or not self.own_search

    def search_note(self, fitter: str = "best") -> str:
        """The sentence for a run in which `evaluate` fits the constants itself; empty where it does not."""
        if fitter != "reference" and self.least_squares:
            return ""
        why = "--fitter reference" if self.least_squares else self.own_search
        note = f"{self.path}: its own {self.evaluate_name} fits the constants ({why})"
        hint = f"; if it is least squares, say so by a comment {_DECLARATION}"
        return note if self.least_squares else note + hint


def load_spec(path: str | Path, asked: Declarations | None = None) -> Spec:
    """The spec of a file, which declares `asked` too; `UserError` with the file's name on any fault."""
    path = Path(path)
    text = _read(path)
    spec = parse_spec(text, str(path))
    return parse_spec(with_declarations(spec.text, asked), str(path)) if asked and asked.said else spec


def parse_spec(text: str, path: str = "spec") -> Spec:
    """The spec of a text; `path` is the name that errors show."""
    # as Python reads a file, so that line numbers are those of an editor
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            tree = ast.parse(text)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise UserError(f"{path}: {where}not valid Python ({error.msg}); correct the spec.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: not valid Python ({error}); correct the spec.") from None

    evaluate = _decorated(tree, RUN, "@evaluate.run", path)
    equation = _decorated(tree, EVOLVE, "@equation.evolve", path)
    if evaluate is equation:
        raise UserError(f"{path}: one function has both decorators; write evaluate and equation apart.")
    if isinstance(evaluate, ast.AsyncFunctionDef):
        raise UserError(f"{path}: line {evaluate.lineno}: {evaluate.name} is async; write a plain def.")
    if not evaluate.args.posonlyargs and not evaluate.args.args:
        raise UserError(
            f"{path}: line {evaluate.lineno}: {evaluate.name} takes no argument; "
            f"write def {evaluate.name}(data: dict) -> float."
        )

    lines = text.split("\n")
    columns, params_name = _signature(equation, path)
    header, rest, header_end = _split_header(equation, lines)
    docstring, seed_body = _split_docstring(equation, rest, header_end, lines)
    constants = module_constants(tree)
    max_params = _max_params(tree, evaluate, constants, path)
    line = first_other_line(tree, evaluate, equation, max_params)
    asked = read_declarations(text, path)
    if asked.roles and line and not asked.loss:
        raise UserError(
            f"{path}: its own {evaluate.name} fits the constants (line {line}) and knows no "
            f"{next(iter(asked.roles))}; name the loss to minimise, for example --loss mse."
        )
    template = Template.of(asked.template, columns, params_name, path) if asked.template else None
    first = min(d.lineno for f in (evaluate, equation) for d in f.decorator_list)
    parts = [
        part.partition("=") for name, told in declared(text) if name == "units" for part in told.split(";")
    ]
    return Spec(
        path=path,
        text=text,
        preface="\n".join(line for line in lines[: first - 1] if not is_declaration(line)).strip("\n"),
        function_name=equation.name,
        columns=columns,
        params_name=params_name,
        header=header,
        docstring=docstring,
        seed_body=template.seed if template else seed_body,
        evaluate_name=evaluate.name,
        max_params=max_params,
        dialect=_dialect(tree, evaluate, equation),
        own_search=f"line {line}: {lines[line - 1].strip()}" if line else "",
        asked=asked,
        constants=constants,
        units={name.strip(): unit.strip() for name, _, unit in parts if unit.strip()},
        form=Form.of(asked, columns, path),
        template=template,
    )


def read_body(
    spec: Spec,
    body: str,
    arguments: Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Expression | Refusal:
    """The expression that a body of the spec's function says, or why it says none.

    `arguments` are the body's own names for the columns and, last, the parameters (None: the spec's);
    `versions` are bodies of earlier equations by name, which it may call.
    """
    *columns, params_name = arguments or (*spec.columns, spec.params_name)
    found = parse(
        body,
        columns,
        params_name=params_name,
        max_params=spec.max_params,
        versions=versions,
        constants=spec.constants,
        dialect=spec.dialect,
    )
    return found if isinstance(found, Refusal) else Expression(found.nodes, spec.columns)


class Meant(NamedTuple):
    """What a model's body says: its expression, the text that was read, and what in it was put right."""

    expression: Expression | Refusal
    body: str
    repairs: tuple[str, ...] = ()


def read_as_meant(
    spec: Spec,
    body: str,
    arguments: Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Meant:
    """As `read_body`; a body that is refused as written is read once more with its small slips put right.

    The refusal is that of the body as written where the second reading fails too.
    """
    expression = read_body(spec, body, arguments, versions)
    if isinstance(expression, Expression) or expression.kind not in ("syntax", "unsupported"):
        return Meant(expression, body)
    # only what was refused: a body that reads as written means what is written
    given = (*spec.constants, *(versions or ()))
    text, repairs = repaired(body, arguments or (*spec.columns, spec.params_name), spec.max_params, given)
    again = read_body(spec, text, arguments, versions) if repairs else expression
    return Meant(again, text, repairs) if isinstance(again, Expression) else Meant(expression, body)


def without_markers(tree: ast.Module) -> ast.Module:
    """The same module, changed in place, whose functions lost the decorators that only mark them."""
    for statement in tree.body:
        if isinstance(statement, Function):
            marks = statement.decorator_list
            statement.decorator_list = [d for d in marks if _marker(d) not in (RUN, EVOLVE)]
    return tree


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise UserError(f"{path}: larger than a megabyte; a spec is a short text file.")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        names = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        hint = f"{folder} has {', '.join(names[:8])}."
        if near := difflib.get_close_matches(path.name, names, 3, 0.5):
            hint = f"did you mean {' or '.join(near)}?"
        elif not names:
            hint = "give the path of a spec file with --spec_path."
        raise UserError(f"{path}: no such spec file; {hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the path of a spec file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the spec as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _marker(decorator: ast.expr) -> str | None:
    """`run` for `@evaluate.run` and `@evaluate.run()`; None for what is no plain `name.attribute`."""
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name):
        return decorator.attr
    return None


def _decorated(tree: ast.Module, mark: str, wanted: str, path: str) -> Function:
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, Function) and any(_marker(d) == mark for d in node.decorator_list)
    ]
    if not found:
        what = "the function that scores" if mark == RUN else "the function to evolve"
        raise UserError(f"{path}: no function is decorated {wanted}; put it above {what}.")
    if len(found) > 1:
        where = " and ".join(str(node.lineno) for node in found)
        raise UserError(f"{path}: {wanted} decorates {len(found)} functions (lines {where}); keep one.")
    if found[0] not in tree.body:
        where = f"{path}: line {found[0].lineno}: {found[0].name}"
        raise UserError(f"{where} is nested; move it to the top level of the spec.")
    if sum(_marker(d) == mark for d in found[0].decorator_list) > 1:
        raise UserError(f"{path}: line {found[0].lineno}: {wanted} stands twice; keep one.")
    return found[0]


def _signature(equation: Function, path: str) -> tuple[tuple[str, ...], str]:
    """The names of the input columns and of the parameters."""
    where = f"{path}: line {equation.lineno}: {equation.name}"
    args = equation.args
    if args.vararg or args.kwarg or args.kwonlyargs:
        raise UserError(f"{where} must name its inputs one by one; remove * and ** from its signature.")
    names = [a.arg for a in (*args.posonlyargs, *args.args)]
    # the fit would take a column for the constants
    if "params" in names[:-1]:
        raise UserError(f"{where}: params must be the last argument.")
    if not names or not _means_params(names[-1], equation):
        raise UserError(f"{where} has no params; add them as its last argument, named params.")
    if len(names) == 1:
        raise UserError(f"{where} has no input column; name the inputs before {names[0]}.")
    return tuple(names[:-1]), names[-1]


def _means_params(name: str, equation: Function) -> bool:
    """Whether the last argument holds the parameters: by its name, or because the seed takes it apart."""
    if "param" in name.lower():
        return True
    for node in ast.walk(equation):
        if isinstance(node, ast.Subscript | ast.Assign) and ast.unparse(node.value) == name:
            targets = getattr(node, "targets", [])
            if not targets or any(isinstance(target, ast.Tuple | ast.List) for target in targets):
                return True
    return False


def _split_header(equation: Function, lines: list[str]) -> tuple[str, str, int]:
    """The header as written, from `def` to its colon, what follows on that colon's line, and its number."""
    source = "\n".join(lines[equation.lineno - 1 : equation.end_lineno]) + "\n"
    depth, start = 0, None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if start is None:
            start = token.start if token.string == "def" else None
        elif token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
            if token.string == ":" and depth == 0:
                rows = source.split("\n")[start[0] - 1 : token.end[0]]
                rest = rows[-1][token.end[1] :]
                rows[-1] = rows[-1][: token.end[1]]
                rows[0] = rows[0][start[1] :]
                return "\n".join(rows).expandtabs(4), rest, equation.lineno + token.end[0] - 1
    raise AssertionError("a parsed function has a header")


def _split_docstring(equation: Function, rest: str, header_end: int, lines: list[str]) -> tuple[str, str]:
    """The docstring, ready to stand indented by four spaces between triple quotes, and the seed body."""
    first = equation.body[0]
    docstring = ast.get_docstring(equation, clean=False)
    end_line = equation.end_lineno or equation.lineno
    if docstring is None:
        start = header_end  # the body begins below the header, with its comments
        head = rest.strip()
    else:
        start = first.end_lineno or first.lineno
        tail = lines[start - 1].encode()[first.end_col_offset :].decode()
        head = tail.strip().removeprefix(";").strip()
    if head.startswith("#"):
        head = ""
    block = textwrap.dedent("\n".join(lines[start:end_line]).expandtabs(4)).strip("\n")
    body = "\n".join(part for part in (head, block) if part)
    return _clean_docstring(docstring or ""), body


def _clean_docstring(docstring: str) -> str:
    if "\n" in docstring:
        first, *others = inspect.cleandoc(docstring).split("\n")
        kept = [first, *(f"    {line}" if line else "" for line in others)]
        if not docstring.split("\n")[0].strip():
            kept = ["", f"    {first}", *kept[1:]]
        if not docstring.split("\n")[-1].strip():
            kept.append("    ")
        docstring = "\n".join(kept)
    # prompts put it between triple quotes again
    docstring = docstring.replace('"""', "'''")
    return docstring + " " if docstring.endswith(('"', "\\")) else docstring


def _max_params(tree: ast.Module, evaluate: Function, constants: Mapping[str, int | float], path: str) -> int:
    """MAX_NPARAMS, or else the length of the one plain list of ones that the spec builds."""
    number = constants.get("MAX_NPARAMS")
    if number is None:
        lengths = {n for node in ast.walk(tree) if (n := ones_length(node, constants)) is not None}
        if len(lengths) != 1:
            raise UserError(
                f"{path}: the number of parameters is not stated; add a line MAX_NPARAMS = 10 above "
                f"{evaluate.name}."
            )
        number = lengths.pop()
    if not 1 <= number <= MAX_PARAMS_LIMIT or number != int(number):
        raise UserError(
            f"{path}: MAX_NPARAMS is {number:g}; it must be a whole number from 1 to {MAX_PARAMS_LIMIT}."
        )
    return int(number)


def _dialect(tree: ast.Module, evaluate: Function, equation: Function) -> Dialect:
    """torch where `evaluate` or the equation uses what an import of torch has bound."""
    bound = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", alias.name) or "").split(".")[0] == "torch"
    }
    used = {n.id for f in (evaluate, equation) for n in ast.walk(f) if isinstance(n, ast.Name)}
    return "torch" if bound & used else "numpy"
