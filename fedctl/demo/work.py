"""The work itself, as a program: read a module, byte-compile it, run its doctests. One JSON line on stdout.

Run as `python -I work.py read|compile FILE` or `python -I work.py doctest MODULE`, each time in a fresh interpreter.
Only `doctest` imports what it is about, and only modules of the fixed list `MODULES_WITH_DOCTESTS`: a file that the
demo was merely pointed at is read and compiled, never run.
"""

from __future__ import annotations

import ast
import json
import sys
import time
from pathlib import Path

MODULES_WITH_DOCTESTS = (
    "difflib", "heapq", "statistics", "collections", "fractions", "decimal", "enum", "json", "pickle", "pickletools",
    "zipfile", "uuid", "http.cookies", "doctest", "textwrap",
)  # fmt: skip
COMPILE_ROUNDS = 5


def read(path: Path) -> dict[str, object]:
    """Return what a module is made of: imports, functions, classes, lines, bytes."""
    source = path.read_bytes()
    tree = ast.parse(source, filename=str(path))
    imports: set[str] = set()
    functions: list[tuple[int, str]] = []
    classes: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(((node.end_lineno or node.lineno) - node.lineno + 1, node.name))
        elif isinstance(node, ast.ClassDef):
            classes.append(node.name)
    longest = max(functions, default=(0, ""))
    return {
        "lines": source.count(b"\n"),
        "bytes": len(source),
        "imports": sorted(imports),
        "functions": len(functions),
        "classes": sorted(classes),
        "longest_function": longest[1],
        "longest_function_lines": longest[0],
        "docstring": (ast.get_docstring(tree) or "").strip().partition("\n")[0],
    }


def compile_(path: Path) -> dict[str, object]:
    """Return how long byte-compiling a module takes, the best of a few rounds, and how much code comes of it."""
    source = path.read_bytes()
    best_ms = float("inf")
    for _ in range(COMPILE_ROUNDS):
        begun = time.perf_counter()
        code = compile(source, str(path), "exec", dont_inherit=True)
        best_ms = min(best_ms, (time.perf_counter() - begun) * 1000)
    return {"compile_ms": round(best_ms, 3), "code_bytes": _code_bytes(code), "rounds": COMPILE_ROUNDS}


def _code_bytes(code: object) -> int:
    todo, total = [code], 0
    while todo:
        one = todo.pop()
        total += len(one.co_code)  # type: ignore[attr-defined]
        todo.extend(const for const in one.co_consts if hasattr(const, "co_code"))  # type: ignore[attr-defined]
    return total


def run_doctests(module: str) -> dict[str, object]:
    """Return how many of a module's own examples were tried, and how many failed."""
    import contextlib  # noqa: PLC0415  only here
    import doctest  # noqa: PLC0415
    import importlib  # noqa: PLC0415
    import io  # noqa: PLC0415

    if module not in MODULES_WITH_DOCTESTS:
        raise SystemExit(f"{module} is not on the list of modules whose doctests are run")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        result = doctest.testmod(importlib.import_module(module))
    first = next((line.strip() for line in said.getvalue().splitlines() if line.startswith("File ")), "")
    return {"examples": result.attempted, "failed": result.failed, "first_failure": first.rpartition(" in ")[2]}


def main() -> None:
    """Do one piece of work and print what came of it."""
    kind, subject = sys.argv[1:3]
    found = run_doctests(subject) if kind == "doctest" else {"read": read, "compile": compile_}[kind](Path(subject))
    print(json.dumps(found))  # noqa: T201  this is a program of its own


if __name__ == "__main__":
    main()
