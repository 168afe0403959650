"""Jinja without reach: a closed language over plain values, each step of it paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import SecurityError, TemplateAssertionError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from statewise.sandbox.filters import FILTERS, TESTS, now
from statewise.sandbox.meter import CHARACTERS_PER_STEP, Refused, made, spend, steps_of
from statewise.sandbox.values import METHODS, OPERATORS

MAX_RANGE = 100_000
"""Longest range."""
MACRO_STEPS = 8
"""Calling a macro takes so much longer than a turn of a loop."""
REFUSED_NODES = (
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Block,
    nodes.ScopedEvalContextModifier,
)
"""A template is one text: it reads no other, and it writes no HTML."""
LOOP = (
    "index",
    "index0",
    "first",
    "last",
    "length",
    "revindex",
    "revindex0",
    "previtem",
    "nextitem",
    "depth",
    "depth0",
)
"""What a loop says of itself."""
# No template can write these names: they hold a space.
_SPEND, _READ, _MADE, _CONCAT, _CUT = " spend", " read", " made", " concat", " cut"


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A method of a value, ready to be called."""

    name: str
    function: Callable[..., Any]
    value: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function of the value."""
        return self.function(self.value, *args, **kwargs)


class Names(Namespace):
    """`namespace()`: names that a template sets, none of them private, none of them a namespace."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        Namespace.__init__(self, {})
        for name, value in dict(*rest, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or name.startswith("_"):
            raise Refused(f"a namespace takes no attribute {name!r}")
        made(value)
        Namespace.__setitem__(self, name, value)


class Absent(StrictUndefined):
    """What a chat template may ask after (`{% if message.tool_calls %}`) and never write."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment whose whole language is listed: nodes, operators, filters, tests, methods, callables."""

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self, *, chat: bool = False) -> None:
        """`chat`: as transformers makes the environment of a chat template."""
        super().__init__(
            trim_blocks=chat,
            lstrip_blocks=chat,
            keep_trailing_newline=not chat,
            undefined=Absent if chat else StrictUndefined,
            extensions=[Generation, loopcontrols] if chat else [],
            # Constants are folded where a template is compiled, and nobody counts steps there.
            optimized=False,
            finalize=_written,
        )
        self.filters = {
            **FILTERS,
            _SPEND: spend,
            _READ: _read,
            _MADE: made,
            _CONCAT: _concat,
            _CUT: _cut,
        }
        self.tests = dict(TESTS)
        self.globals = {"range": _range, "dict": dict, "namespace": Names}
        if chat:
            self.globals |= {"raise_exception": _raise, "strftime_now": now}
        self._helpers = frozenset(map(id, self.globals.values()))

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for node in source.find_all(REFUSED_NODES):
            what = type(node).__name__.lower()
            raise TemplateAssertionError(f"{what!r} is not for templates here", node.lineno)
        _Metered().visit(source)
        for node in source.find_all(nodes.Node):
            node.environment = self
        return super()._generate(source, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator; what it reads and what it makes are paid for."""
        spend(steps_of(left) + steps_of(right))
        return made(OPERATORS[operator](left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`value.attribute`: a listed method, a key of a mapping, a name of a loop or a namespace."""
        if (function := METHODS.get(type(obj), {}).get(attribute)) is not None:
            return BoundMethod(attribute, function, obj)
        if isinstance(obj, Undefined):
            _complain(obj)
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Names) and not attribute.startswith("_"):
            return (
                getattr(obj, attribute, None)
                if hasattr(obj, attribute)
                else self.undefined(obj=obj, name=attribute)
            )
        if attribute in _names(obj):
            return getattr(obj, attribute)
        if isinstance(obj, LoopContext) and attribute in ("cycle", "changed"):
            return BoundMethod(attribute, getattr(LoopContext, attribute), obj)
        if hasattr(type(obj), attribute):
            return self.unsafe_undefined(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`value[argument]`."""
        if isinstance(obj, str | list | tuple | dict | range):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_callable(self, obj: Any) -> bool:
        """Only what was made here can be called: methods, macros, recursive loops, the global functions."""
        return isinstance(obj, BoundMethod | Macro | LoopContext) or id(obj) in self._helpers

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what can be called; arguments and result are paid for."""
        if isinstance(__obj, Undefined):
            _complain(__obj)
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"{type(__obj).__name__} cannot be called in a template")
        if isinstance(__obj, Macro | LoopContext):
            # A macro may be handed a namespace; what it does is paid for as it does it.
            spend(MACRO_STEPS)
            return __context.call(__obj, *args, **kwargs)
        for name in ("_loop_vars", "_block_vars"):  # what Jinja hands to its own context alone
            kwargs.pop(name, None)
        spend(1 + sum(map(steps_of, args)) + sum(map(steps_of, kwargs.values())))
        value = __obj(*args, **kwargs)
        return value if isinstance(value, Names) else made(value)


class Generation(Extension):
    """`{% generation %}` marks what the model wrote; here it is its body."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own

    def parse(self, parser: Any) -> nodes.Node:
        """The body up to `{% endgeneration %}`, with a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Metered(NodeTransformer):
    """Writes the payments into a template: a loop's turn, a macro's call, what an expression makes or reads."""

    def visit_For(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_filter(nodes.Const(1), _SPEND, node), node.test).set_lineno(
                node.lineno
            )
        return _paid(node)

    def visit_Macro(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _paid(node)

    visit_CallBlock = visit_Macro  # noqa: N815

    def visit_Compare(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filter(node.expr, _READ, node)
        for operand in node.ops:
            operand.expr = _filter(operand.expr, _READ, node)
        return node

    def visit_Concat(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes).set_lineno(node.lineno), _CONCAT, node)

    def visit_List(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _MADE, node)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _MADE, node) if node.ctx == "load" else node

    def visit_Getitem(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(part := node.arg, nodes.Slice):
            return node
        ends = [e or nodes.Const(None) for e in (part.start, part.stop, part.step)]
        return _filter(node.node, _CUT, node, *ends)


def _paid(node: Any) -> nodes.Node:
    """The body of a loop or macro, its own text paid for each time that it is run."""
    static = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
    price = nodes.Const(1 + static // CHARACTERS_PER_STEP)
    payment = nodes.ExprStmt(_filter(price, _SPEND, node)).set_lineno(node.lineno)
    node.body = [payment, *node.body]
    return node


def _filter(value: Any, name: str, place: nodes.Node, *args: nodes.Expr) -> Any:
    return nodes.Filter(value, name, list(args), [], None, None).set_lineno(place.lineno)


def _names(value: Any) -> Sequence[str]:
    """What can be read of a value by name, and runs nothing of a template's choice."""
    if isinstance(value, LoopContext):
        return LOOP
    if isinstance(value, tuple):  # what `groupby` makes
        return getattr(type(value), "_fields", ())
    return ()


@pass_context
def _written(_: Context, value: Any) -> str:
    """What an expression writes. With the context as an argument it is never asked at compile time."""
    spend(steps_of(value))
    if not isinstance(value, str) and (missing := _missing(value)) is not None:
        _complain(missing)
    return made(str(value))


def _missing(value: Any) -> Undefined | None:
    """An undefined value in a list or mapping: written out, it would pass for a word."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := _missing(item)) is not None), None)
    return value if isinstance(value, Undefined) else None


def _complain(missing: Undefined) -> NoReturn:
    """What is undefined says itself what it is; none of its Python attributes is given away."""
    str(missing)
    raise AssertionError(f"{missing!r} can be written")


def _read(value: Any) -> Any:
    spend(steps_of(value))
    return value


def _concat(values: list[Any]) -> str:
    spend(steps_of(values))
    return made("".join(map(str, values)))


def _cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    if not isinstance(value, str | list | tuple | range):
        if isinstance(value, Undefined):
            _complain(value)
        raise Refused(f"{type(value).__name__} has no parts from one place to another")
    return made(value[start:stop:step])


def _range(*args: int) -> range:
    found = range(*args)
    if len(found) > MAX_RANGE:
        raise Refused(f"a range has more than {MAX_RANGE:,} numbers")
    return found


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
