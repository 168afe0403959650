"""Templates of strangers: what they may do is what trusted ones do; the rest is refused, and all of it ends."""

from __future__ import annotations

import resource
import time

import pytest
from jinja2 import Environment, StrictUndefined

from statewise.errors import ConfigError
from statewise.sandbox import PromptTemplate, meter, render_chat

ROW = {
    "question": "1+1?",
    "choices": ["a", "B"],
    "n": 3,
    "x": 1.5,
    "none": None,
    "d": {"items": 5, "x": [1, {"k": "v"}]},
    "rows": [{"g": 1, "t": "p"}, {"g": 2, "t": "q"}, {"g": 1, "t": "r"}],
    "long": "x" * 100_000,
}
SECONDS = 10.0


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Checked annotations make a step of a test ten times as slow as a user's."""
    monkeypatch.setattr(meter, "STEPS", 20_000)


def rendered(text: str) -> str:
    return PromptTemplate(text, "tasks.sums.prompt")(ROW)


PLAIN = [
    "{{question}}\n{% for c in choices %}{{loop.index}}. {{c}}{% if not loop.last %}, {% endif %}{% endfor %}\n",
    "{{ choices|map('upper')|join(' ') }} {{ 'a' ~ n ~ x }} {{ n*2+1 }} {{ n/2 }} {{ n//2 }} {{ n**2 }} {{ -n % 2 }}",
    "{{ d.x[1].k }} {{ d['x'][0] }} {{ d['items'] }} {{ d.get('y', 7) }} {{ question[0:2] }} {{ question[::-1] }}",
    "{{ '%s-%03d-%.2f' % ('a', 5, x) }} {{ '%s'|format(n) }} {{ '{}-{:>4}-{a!r}'.format(1, 2, a='b') }}",
    "{% set ns = namespace(a=1) %}{% for i in range(5) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
    "{% macro f(t, b=2) %}<{{ t }}{{ b }}>{% endmacro %}{{ f(3) }}{{ f(b=1, t='q') }}",
    "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{{ n }}{% endcall %}",
    "{% for g in rows|groupby('g') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}",
    "{% for r in rows if r.g == 1 %}{{ loop.index0 }}{{ r.t }}{% else %}none{% endfor %}",
    "{% for r in [[1, [2, [3]]]] recursive %}{% if r is number %}{{ r }}{% else %}{{ loop(r) }}{% endif %}{% endfor %}",
    "{{ y is defined }} {{ y|default('q') }} {{ 'a' in choices }} {{ 1 < n <= 3 }} {{ n if n > 9 else 'no' }}",
    "{% filter upper %}abc{% endfilter %}{{ 'a\nb'|indent(2) }}|{{ 'a'|center(5) }}|{{ ' a '|trim }}|{{ x|round(1) }}",
    "{{ rows|map(attribute='t')|list }} {{ rows|selectattr('g', 'equalto', 1)|map(attribute='t')|join(',') }}",
    "{{ choices|first }}{{ choices|last }}{{ choices|sort }}{{ [3, 1]|sum }}{{ [1, 2, 3]|batch(2)|list }}",
    "{{ question.split('+')|length }} {{ question.replace('1', '2') }} {{ 'ab'.title() }} {{ 'a,b'.split(',')[1] }}",
    "{{ none }} {{ true and not false }} {{ (1, 2) }} {{ {'a': 1}.items()|list }} {{ d.x|length }} {{ n|string }}",
    "{# a comment #}{% raw %}{{ not this }}{% endraw %}{% with a = 1 %}{{ a }}{% endwith %}",
    "{% set b %}x{% endset %}{{ b }}{% if n == 3 %}three{% elif n %}other{% endif %}",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_templates_are_for_comes_out_as_the_harness_writes_it(text):
    theirs = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    assert rendered(text) == theirs.from_string(text).render(**ROW)


REACH = [
    "cycler.__init__.__globals__.os.system('id')",
    "''.__class__.__mro__[1].__subclasses__()",
    "question|attr('__class__')",
    "[question]|map(attribute='__class__.__mro__')|list",
    "[question]|map('attr', '__class__')|list",
    "'{0.__class__}'.format(1)",
    "'{x.__class__}'.format_map({'x': 1})",
    "'{0[k]}'.format(d)",
    "question.format.__self__",
    "range.__init__.__globals__",
    "namespace.__init__.__globals__",
    "namespace().__class__",
    "dict.__subclasses__()",
    "self.__init__.__globals__",
    "self._TemplateReference__context",
    "missing.__class__.__init__.__globals__",
    "(missing|default('')).__class__",
    "n.__class__",
    "d.__class__",
    "d.update({'a': 1})",
    "d.pop('x')",
    "choices.append(1)",
    "choices.sort()",
    "question.encode()",
    "range(3)(1)",
    "question()",
    "lipsum(9)",
    "joiner.__init__",
    "config",
    "choices|random",
    "question|regex_replace('(a+)+$', '')",
    "caller()",
]


@pytest.mark.parametrize("expression", REACH)
def test_nothing_beyond_the_row_is_reached(expression):
    with pytest.raises(ConfigError, match=r"tasks\.sums\.prompt, line 1: "):
        rendered("{{ " + expression + " }}")


STATEMENTS = [
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% from '/etc/passwd' import x %}",
    "{% extends '/etc/passwd' %}",
    "{% block a %}{% endblock %}",
    "{% autoescape true %}{{ 1 }}{% endautoescape %}",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}",
    "{% macro f() %}{% endmacro %}{{ f._environment }}",
    "{% for a in [1] %}{{ loop._iterable }}{% endfor %}",
    "{% for a in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% set ns = namespace(__class__=1) %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
]


@pytest.mark.parametrize("text", STATEMENTS)
def test_no_statement_reads_another_template_or_pythons_own(text):
    with pytest.raises(ConfigError, match=r"tasks\.sums\.prompt, line 1: "):
        rendered(text)


LARGE = [
    "{{ 'a' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ 10**9 * 'a' }}",
    "{{ 10**1000 }}",
    "{{ 2 ** (2 ** 40) }}",
    "{% set a = 10**100 %}" + "{% set a = a * a %}" * 40 + "{{ a }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % x }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%(n)1000000000s' % {'n': 1} }}",
    "{{ '%(" + "k" * 300 + ")1000000000s' % {'" + "k" * 300 + "': 1} }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ '{:.1000000000f}'.format(x) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ 'a'.rjust(10**10) }}",
    "{{ 'a'.center(10**10) }}",
    "{{ 'a'.zfill(10**10) }}",
    "{{ 'a\tb'.expandtabs(10**10) }}",
    "{{ 'a'|center(10**10) }}",
    "{{ ['a']|map('center', 10**10)|join }}",
    "{{ 'a\nb'|indent(10**10) }}",
    "{{ ('a\n' * 100000)|indent(long) }}",
    "{{ long.replace('x', long) }}",
    "{{ long|replace('x', long) }}",
    "{{ long.replace('', long) }}",
    "{{ long.join(['a'] * 100000) }}",
    "{{ (['a'] * 100000)|join(long) }}",
    "{{ [1]|batch(10**10, 'x')|list }}",
    "{{ [1]|slice(10**10)|list }}",
    "{{ x|round(10**10, 'ceil') }}",
    "{{ {'a': 1}|tojson(indent=10**9) }}",
    "{{ [long] * 100000 }}",
    "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
    "{% set a = {'k': 1} %}" + "{% set a = {'l': a, 'r': a} %}" * 60 + "{{ a }}",
    "{% set a = 'x' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set a = 'x' %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "{% set n = namespace(a=1) %}{% set m = namespace(a=n, b=n) %}{{ m }}",
    "{% for i in range(99999) %}" + "y" * 90_000 + "{% endfor %}",
    "{% for i in range(99999) %}{{ long }}{% endfor %}",
    "{% set t %}{% for i in range(99999) %}" + "y" * 90_000 + "{% endfor %}{% endset %}",
    "{% set t %}{% for i in range(99999) %}{{ long }}{% endfor %}{% endset %}",
]
LONG = [
    "{% for a in range(10**12) %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) if false %}{% endfor %}" * 300,
    "{% for a in range(99999) %}{% if long == long ~ '' %}{% endif %}{% endfor %}",
    "{% for a in range(99999) %}{% if 'y' in long %}{% endif %}{% endfor %}",
    "{% for a in range(99999) %}{% if long is eq(long[1:]) %}{% endif %}{% endfor %}",
    "{% for a in range(99999) %}{% set t = long[1:] %}{% endfor %}",
    "{% for a in range(99999) %}{% set t = long|upper %}{% endfor %}",
    "{% for a in range(99999) %}{% set t = long.upper() %}{% endfor %}",
    "{% set l = range(99999)|list %}{{ l|select('in', l)|list|length }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}",
]


@pytest.mark.parametrize("text", [*LARGE, *LONG], ids=lambda text: text[:60])
def test_what_would_fill_the_memory_or_never_end_is_refused_soon(text):
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(ConfigError, match=r"tasks\.sums\.prompt"):
        rendered(text)
    assert time.perf_counter() - begin < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ 1 }}\n\n{{ quest }}", "line 3: 'quest' is undefined; there are choices, d,"),
        ("{{ question.foo }}", "line 1: 'str object' has no attribute 'foo'"),
        ("{{ [missing] }}", "line 1: 'missing' is undefined"),
        ("a\n{% for x in", "line 2: "),
        ("{{ x|nofilter }}", "line 1: No filter named 'nofilter'"),
        ("\n{{ 1 / 0 }}", "line 2: ZeroDivisionError: division by zero"),
        ("{{ 'a' + 1 }}", "line 1: TypeError: can only concatenate"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "nested, too deep"),
        ("{{ " + "9" * 5_000 + " }}", "ValueError"),
        ("{% if 1 %}" * 300 + "{% endif %}" * 300, "nested, too deep"),
        ("{% for x in [1] %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("a" * 100_001, "longer than 100,000 characters"),
        ("{{ '\\ud800' }}", "surrogates not allowed"),
    ],
)
def test_an_error_is_one_line_with_place_line_and_reason(text, said):
    with pytest.raises(ConfigError) as caught:
        rendered(text)
    message = str(caught.value)
    assert message.startswith("tasks.sums.prompt")
    assert said in message
    assert "\n" not in message


def test_a_rows_objects_are_text_to_a_template():
    class Loud:
        def __str__(self) -> str:
            return "loud"

        def act(self) -> str:
            raise AssertionError("called")

    assert PromptTemplate("{{ o }}", "p")({"o": Loud()}) == "loud"
    with pytest.raises(ConfigError, match="no attribute 'act'"):
        PromptTemplate("{{ o.act() }}", "p")({"o": Loud()})


CHATS = [
    # As SmolLM2, Qwen2.5 and Llama 3 write theirs.
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{%- if tools %}\n    {{- '# Tools' }}\n{%- endif %}\n{%- for message in messages %}\n"
    '    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}\n'
    "        {{- '<' + message.role + '>' + message.content + '\\n' }}\n    {%- elif message.role == \"tool\" %}\n"
    "        {{- message.content|tojson }}\n    {%- endif %}\n{%- endfor %}\n",
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<h>' + message['role'] + "
    "'</h>\n\n'+ message['content'] | trim + '<eot>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% endif %}\n{% endfor %}\n",
]
MESSAGES = [
    {"role": "system", "content": "Be <brief>."},
    {"role": "user", "content": " 1+1? "},
    {"role": "assistant", "content": "2"},
]


@pytest.mark.parametrize("template", CHATS)
@pytest.mark.parametrize("begin", [True, False])
def test_chat_templates_come_out_as_transformers_writes_them(template, begin):
    from transformers.utils.chat_template_utils import render_jinja_template

    for messages in (MESSAGES, MESSAGES[1:2]):
        (theirs,), _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=begin, bos_token="<s>"
        )
        ours = render_chat(
            template, messages, "chat template", add_generation_prompt=begin, bos_token="<s>"
        )
        assert ours == theirs


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "line 1: roles must alternate"),
        ("{{ strftime_now('%999999999Y') }}", "letters alone"),
        ("{{ messages[0].name }}", "no attribute 'name'"),
        ("{{ cycler.__init__.__globals__ }}", "'cycler' is undefined"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"),
        ("{{ 'a' * 10**10 }}", "longer than"),
    ],
)
def test_chat_templates_are_as_closed_as_prompts(template, said):
    with pytest.raises(ConfigError, match=said):
        render_chat(template, MESSAGES, "chat template")


def test_the_time_of_day_is_there_for_chat_templates():
    assert render_chat("{{ strftime_now('%Y')|length }}", MESSAGES, "chat template") == "4"


def test_a_template_gets_as_many_steps_as_are_said_and_no_more(monkeypatch):
    # 5 for the range that is made and the two items of its call, 1 a turn.
    text = "{% for i in range(10) %}{% endfor %}"
    monkeypatch.setattr(meter, "STEPS", 10 + 11 + 2)
    assert rendered(text) == ""
    monkeypatch.setattr(meter, "STEPS", 10 + 11 + 1)
    with pytest.raises(ConfigError, match="takes more than 22 steps"):
        rendered(text)
