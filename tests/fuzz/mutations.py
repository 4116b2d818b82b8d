"""Hypothesis strategies for settings that nobody would write.

A configuration that is right is taken, as YAML, as flags or as arguments, and
one to three things in it are changed. So most of what is read is right, and
what is wrong is met deep inside.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

NUMBERS: Sequence[Any] = (
    *(0, -1, 1, 7, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, -0.0, 0.5),
    *(1e-320, -1e-9, 1e308, math.nan, math.inf, -math.inf),
)
WORDS = (
    *("", " ", "true", "null", "0.1", "1e400", "many", "nan", "é", "日本"),
    *("a\nb", "\0", "\x1b[31m", "\u2028", "{}", "[", "%s", "{0}", "$x_1$"),
    *("../../etc/passwd", "/etc/passwd", "~", ".", "a/b", "C:\\x", "*", "("),
    *("<script>alert(1)</script>", "sgd", "constant", "a" * 3000, "\udcff"),
)
# Of YAML alone.
LINES = (
    *("!!python/object/apply:os.system [exit 1]", "? [a, b]", "- 1", "\t- x"),
    *("x: !!python/name:os.system", "x: !!binary x", "x: !!timestamp never"),
    *("x: !!int many", "x: !!float many", "x: !!set {a, b}", "x: !!omap 1"),
    *("x: 2024-13-45", "x: &a [*a, *a]", "<<: {task: 1}", "<<: [1]", "<<: 1"),
    *("x: *nowhere", "x: &a {<<: *a}", "--- {}", "...", "%YAML 9.9", "{a: 1"),
    *("? {a: 1}\n: 2", ".nan: 1", "null: 1", "1: 2", "x: 1_000:59", "\x07"),
    *("x: 0b", "x: 0o9", "x: 190:20:30", "x: 99999999999999999-01-01", "'"),
)
BOMB = "\n".join(
    [
        "a0: &a0 {x: 1, y: 2}",
        *(
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]"
            for n in range(1, 12)
        ),
    ]
)
MERGE_BOMB = "\n".join(
    [
        "a0: &a0 {x: 1, y: 2}",
        *(
            f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}"
            for n in range(1, 12)
        ),
    ]
)

scalars = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.sampled_from([None, True, False]),
    st.integers(-5, 5000),
    st.floats(),
    st.text(max_size=8),
)
values = st.one_of(
    scalars,
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(WORDS), scalars, max_size=2),
    st.dictionaries(scalars, st.lists(scalars, max_size=2), max_size=2),
)


def places(tree: Any, above: tuple = ()) -> list[tuple]:
    """Returns the paths of everything inside nested mappings and lists."""
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    found = []
    for key, value in pairs:
        found += [(*above, key), *places(value, (*above, key))]
    return found


def inside(tree: Any, path: Sequence[Any]) -> Any:
    """Returns what is at a path."""
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def trees(draw: Callable, tree: dict, most: int = 3) -> Any:
    """Draws nested mappings and lists that are like one but for 1 to ``most``.

    A thing is taken away, renamed, wrapped, given twice, or replaced.
    """
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        found = places(tree)
        if not found:
            break
        *above, key = draw(st.sampled_from(found))
        parent = inside(tree, above)
        how = draw(st.integers(0, 7))
        if how == 0:
            del parent[key]
        elif how == 1 and isinstance(parent, dict):
            parent[draw(names(key))] = parent.pop(key)
        elif how == 2:
            parent[key] = draw(st.sampled_from([[parent[key]], {key: 1}]))
        elif how == 3:
            path = draw(st.sampled_from(found))
            parent[key] = copy.deepcopy(inside_or(tree, path))
        elif how == 4 and isinstance(parent, dict):
            parent[draw(names(key))] = draw(values)
        else:
            parent[key] = draw(values)
    return tree


def inside_or(tree: Any, path: Sequence[Any]) -> Any:
    """Returns what is at a path, or None where that has gone."""
    try:
        return inside(tree, path)
    except (LookupError, TypeError):
        return None


def names(key: Any) -> st.SearchStrategy:
    """Draws other names for a key."""
    return st.one_of(
        st.sampled_from([f"{key}s", str(key).upper(), f" {key}"]), scalars
    )


def plain(tree: Any) -> Any:
    """Returns a tree as PyYAML can write it, without surrogates."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    if isinstance(tree, str):
        return tree.encode(errors="replace").decode()
    return tree


def dump(tree: Any) -> str:
    """Returns a tree as YAML, in the order of its keys."""
    return yaml.safe_dump(plain(tree), sort_keys=False, allow_unicode=True)


@st.composite
def yaml_texts(draw: Callable, tree: dict) -> bytes:
    """Draws a YAML file like that of a tree."""
    how = draw(st.integers(0, 9))
    if how < 7:
        return dump(draw(trees(tree))).encode()
    lines = dump(tree).splitlines()
    if how == 7:
        place = draw(st.integers(0, len(lines)))
        lines.insert(place, draw(st.sampled_from(LINES)))
    elif how == 8:
        number = draw(st.integers(0, len(lines) - 1))
        change = draw(st.integers(0, 4))
        line = lines[number]
        lines[number] = (
            f"{line}\n{line}",
            "",
            f" {line}",
            line.replace(": ", ":"),
            line[: len(line) // 2],
        )[change]
    else:
        return draw(
            st.sampled_from(
                [
                    b"",
                    b"\xff\xfe",
                    b"[]",
                    b"text",
                    b"null",
                    b"{" * 400,
                    b"a: " + b"[" * 400,
                    BOMB.encode(),
                    MERGE_BOMB.encode(),
                    ("\ufeff" + dump(tree)).encode(),
                    dump(tree).encode("utf-16"),
                ]
            )
        )
    return "\n".join(lines).encode()


def flag_value(flag: Any, known: Sequence[str]) -> st.SearchStrategy:
    """Draws a value for a flag, which it can have or, now and then, cannot."""
    wrong = st.one_of(
        st.sampled_from(WORDS),
        st.sampled_from(NUMBERS).map(str),
        st.text(max_size=6),
    )
    kind = flag.flag_type()
    if kind == "int":
        large = [x for x in NUMBERS if isinstance(x, int)]
        right = st.one_of(st.integers(-1, 30), st.sampled_from(large)).map(str)
    elif kind == "float":
        right = st.one_of(st.floats(0, 1), st.sampled_from(NUMBERS)).map(str)
    elif kind == "bool":
        right = st.sampled_from(["true", "false"])
    elif known:
        right = st.sampled_from(known)
    else:
        right = st.sampled_from(["new", "x"])
    if getattr(flag.parser, "enum_values", None):
        right = st.sampled_from(flag.parser.enum_values)
    if "list" in kind:
        right = st.lists(right, max_size=3).map(",".join)
    return st.one_of(right, right, right, wrong)


@st.composite
def arguments(
    draw: Callable,
    base: Sequence[str],
    flags: dict[str, Any],
    known: dict[str, Sequence[str]],
) -> list[str]:
    """Draws a command's arguments: some that are right, and 1 to 3 flags."""
    found = list(base)
    if found and draw(st.integers(0, 9)) == 0:
        found.pop(draw(st.integers(0, len(found) - 1)))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(flags)))
        value = draw(flag_value(flags[name], known.get(name, ())))
        found.append(f"--{name}={value}")
    if draw(st.integers(0, 19)) == 0:
        found.append(draw(st.sampled_from(WORDS)))
    return found


@st.composite
def resized(draw: Callable, tree: dict) -> dict:
    """Draws nested mappings with 1 to 3 other values of the same type.

    None is so large that it would take all memory.
    """
    tree = copy.deepcopy(tree)
    leaves = [
        path
        for path in places(tree)
        if not isinstance(inside(tree, path), (dict, list))
    ]
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(leaves))
        parent = inside(tree, above)
        parent[key] = draw(like(parent[key]))
    return tree


def like(value: Any) -> st.SearchStrategy:
    """Draws values of the type of one."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(
            st.integers(-3, 12), st.sampled_from([-(10**30), 10**30, -(2**63)])
        )
    if isinstance(value, float):
        return st.one_of(
            st.floats(-1, 2), st.sampled_from([math.nan, math.inf, 1e300, 0.0])
        )
    return st.sampled_from(WORDS)
