"""Who may import whom, read from the source: the direction of imports, and what must stay out of a cold start."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "lrem_os": "lrem_os",
    "ingest": "lrem_os.ingest",
    "query_plugin": "lrem_os.query_plugin",
    "eval": "lrem_os.eval",
}

# A module imports what stands on a lower level, or its own package. Longest prefix wins.
LEVELS = {
    "lrem_os": 0,  # the package itself: version and lazy names
    "lrem_os.errors": 0,
    "lrem_os.types": 0,
    "lrem_os.extras": 1,
    "lrem_os.text": 1,
    "lrem_os.lines": 1,
    "lrem_os.config_layers": 1,
    "lrem_os.config_fields": 2,
    "lrem_os.config_query": 3,
    "lrem_os.config_dashboards": 3,
    "lrem_os.config_runs": 3,
    "lrem_os.config_ray": 3,
    "lrem_os.config": 4,
    "lrem_os.config_template": 5,
    "lrem_os.model": 5,
    "lrem_os.search": 5,
    "lrem_os.node": 5,
    "lrem_os.ingest": 6,
    "lrem_os.query_plugin": 6,
    "lrem_os.eval": 6,
    "lrem_os.train": 6,
    "lrem_os.pretrained": 0,
    "lrem_os.api": 7,
    "lrem_os.doctor": 8,
    "lrem_os.routing": 8,
    "lrem_os.robustness": 8,
    "lrem_os.publishing": 8,
    "lrem_os.switching": 8,
    "lrem_os.judgments": 8,
    "lrem_os.side_by_side": 8,
    "lrem_os.integrations": 8,
    "lrem_os.connecting": 8,
    "lrem_os.planning": 8,
    "lrem_os.dashboards": 8,
    "lrem_os.demo": 8,
    "lrem_os.cli": 9,
    "lrem_os.__main__": 10,
}
TORCH = {
    "lrem_os.model.adapters",
    "lrem_os.model.decoding",
    "lrem_os.model.generate",
    "lrem_os.model.gguf",
    "lrem_os.model.hf",
    "lrem_os.model.hf_load",
    "lrem_os.model.pooling",
    "lrem_os.model.unified",
    "lrem_os.train",
}
ONLY_IN = {  # package → modules that may import it, in any way
    "torch": TORCH | {"lrem_os.doctor", "lrem_os.cli.train_data"},  # the command only asks whether it is there
    "transformers": TORCH | {"lrem_os.cli.train_data", "lrem_os.model.quiet"},
    "peft": {"lrem_os.model.adapters", "lrem_os.model.load", "lrem_os.train"},
    "gguf": {"lrem_os.model.gguf"},
    "haystack": {"lrem_os.integrations.haystack"},
    "langchain_core": {"lrem_os.integrations.langchain"},
    "accelerate": {"lrem_os.train"},
    "tensorboard": {"lrem_os.train"},
    "sklearn": {"lrem_os.train", "lrem_os.cli.train_router"},  # the command only asks whether it is there
    "openai": {"lrem_os.model.openai_client", "lrem_os.train"},
    "vllm": {"lrem_os.model.vllm"},
    "jinja2": {"lrem_os.eval.html", "lrem_os.eval.report_files"},  # the latter only asks whether it is there
    "ranx": {"lrem_os.eval.measures"},
    "opensearchpy": {
        "lrem_os.search",
        "lrem_os.ingest",
        "lrem_os.query_plugin",
        "lrem_os.api",
        "lrem_os.doctor",
        "lrem_os.publishing",
        "lrem_os.switching",
        "lrem_os.planning.trial",
    },
    "jgo": {"lrem_os.node"},
    "cjdk": {"lrem_os.node"},
    "pyarrow": {"lrem_os.ingest"},
    "ray": {"lrem_os.ingest.on_ray"},
    "fastapi": {"lrem_os.query_plugin.service"},
    "aiohttp": {"lrem_os.query_plugin.service.wire"},
    "httpx": {"lrem_os.model.openai_client", "lrem_os.train"},
    "prometheus_client": {"lrem_os.query_plugin.service.metrics"},
    "starlette": {"lrem_os.query_plugin.service"},
    "urllib3": {"lrem_os.dashboards.server"},
    "uvicorn": {"lrem_os.query_plugin.service.server", "lrem_os.query_plugin.service.bounded"},
}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "openai",
    "aiohttp",
    "httpx",
    "fastapi",
    "prometheus_client",
    "jinja2",
    "ranx",
    "sklearn",
    "urllib3",
    "uvicorn",
    "pyarrow",
    "ray",
    "rich",
    "opensearchpy",
    "jgo",
    "cjdk",
    "pydantic",
    "numpy",
    "orjson",
}
BROAD_EXCEPT = {
    "lrem_os.query_plugin.engine.engine",  # a router that fails sends its query direct
    "lrem_os.query_plugin.engine.worker",  # carries whatever a model raises over to the loop: somebody waits
    "lrem_os.query_plugin.service.edge",  # the service's last resort: an id for the client, the traceback for the log
    "lrem_os.cli.options",  # the last resort: a sentence in place of a traceback
    "lrem_os.model.hf_load",  # translates what tokenizers raises: a bare Exception
    "lrem_os.model.gguf",  # translates whatever the reader of a damaged file runs into
    "lrem_os.model.vllm",  # translates what torch and the engine's process raise: no root in common
    "lrem_os.ingest.on_ray.cluster",  # translates whatever Ray's start-up raises: a bare Exception among it
    "lrem_os.ingest.prefetch",  # carries the exception of its thread over to the consumer
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported name, dotted, wherever it stands; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("require", "import_module", "__import__")):
            yield from (
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            )


def imports_at_load(tree: ast.Module) -> Iterator[str]:
    """Yield what loading a module imports: not inside functions, not under ``TYPE_CHECKING``."""
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack.extend(node.orelse)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(node)
        stack.extend(ast.iter_child_nodes(node))


def level(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in LEVELS:
            if length == 1 and len(parts) > 1:
                break  # a module of the core that LEVELS does not know
            return LEVELS[".".join(parts[:length])]
    raise AssertionError(f"{module} has no level: give it one in LEVELS")


def area(module: str) -> str:
    return ".".join(module.split(".")[:2])


def wrong_directions(module: str, tree: ast.AST, known: set[str]) -> list[str]:
    """Return the imports of our own modules that go up or sideways."""
    found = []
    for name in imports(tree):
        if name != "lrem_os" and not name.startswith("lrem_os."):
            continue
        target = name
        while target not in known:
            target = target.rpartition(".")[0]
        if target == "lrem_os" and name != "lrem_os":
            continue  # an attribute of the package: __version__
        if area(target) != area(module) and level(target) >= level(module):
            found.append(f"{module} (level {level(module)}) imports {name} (level {level(target)})")
    return found


def out_of_place(module: str, tree: ast.AST) -> list[str]:
    """Return the imports of packages that belong into other modules."""
    return [
        f"{module} imports {name}; only {', '.join(sorted(allowed))} may"
        for name in imports(tree)
        for package, allowed in ONLY_IN.items()
        if name.split(".")[0] == package and not any(f"{module}.".startswith(f"{home}.") for home in allowed)
    ]


def broad_excepts(module: str, tree: ast.AST) -> list[str]:
    """Return the handlers that swallow whatever comes, outside the places that are named for it."""
    return [
        f"{module}:{node.lineno} except {ast.unparse(node.type) if node.type else ''}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(ast.unparse(node.type).strip("()").split(", ")))
        and not (
            node.body and isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        )  # cleans up, re-raises
        and module not in BROAD_EXCEPT
    ]


def load_sources() -> dict[str, ast.Module]:
    trees = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return trees


SOURCES = load_sources()


def loaded_by(module: str, trees: dict[str, ast.Module]) -> dict[str, str]:
    """Return every module that importing this one loads, each with the module that asks for it."""
    seen: dict[str, str] = {}
    stack = [(module, "")]
    while stack:
        name, asked_by = stack.pop()
        target = name
        while target.startswith("lrem_os.") and target not in trees:
            target = target.rpartition(".")[0]
        if target in seen:
            continue
        seen[target] = asked_by
        if target in trees:
            parents = [target.rpartition(".")[0]] if "." in target else []
            stack += [(found, target) for found in [*parents, *imports_at_load(trees[target])]]
    return seen


def test_the_four_folders_are_read() -> None:
    assert {area(name) for name in SOURCES} >= {"lrem_os", "lrem_os.ingest", "lrem_os.query_plugin", "lrem_os.eval"}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module: str) -> None:
    if module != "lrem_os":  # its names are lazy
        assert wrong_directions(module, SOURCES[module], set(SOURCES)) == []


@pytest.mark.parametrize("module", SOURCES)
def test_packages_are_imported_where_they_belong(module: str) -> None:
    assert out_of_place(module, SOURCES[module]) == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_broad_except(module: str) -> None:
    assert broad_excepts(module, SOURCES[module]) == []


@pytest.mark.parametrize(
    "module", [name for name in SOURCES if name == "lrem_os.__main__" or area(name) == "lrem_os.cli"]
)
def test_a_command_loads_nothing_heavy_before_it_runs(module: str) -> None:
    loaded = loaded_by(module, SOURCES)
    heavy = {name: by for name, by in loaded.items() if name.split(".")[0] in HEAVY}
    assert heavy == {}, "loaded by --help; import it inside the function"


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("lrem_os.search.client", "from lrem_os.ingest import writer", "lrem_os.ingest.writer"),
        ("lrem_os.model.load", "import lrem_os.cli.options", "lrem_os.cli"),
        ("lrem_os.ingest.writer", "from lrem_os.eval import runs", "lrem_os.eval"),
        ("lrem_os.eval.runs", "def f():\n    from lrem_os.query_plugin import x", "lrem_os.query_plugin"),
        ("lrem_os.ingest.writer", "import importlib\nimportlib.import_module('lrem_os.api')", "lrem_os.api"),
        ("lrem_os.model.load", "from lrem_os.search import client", "lrem_os.search"),
    ],
)
def test_a_planted_wrong_direction_is_found(module: str, line: str, expected: str) -> None:
    known = set(SOURCES) | {"lrem_os.api", "lrem_os.ingest.writer", "lrem_os.cli.options"}
    (found,) = wrong_directions(module, ast.parse(line), known)
    assert expected in found


def test_planted_faults_are_found() -> None:
    assert out_of_place("lrem_os.eval.runs", ast.parse("def f():\n    import ranx"))
    assert out_of_place("lrem_os.search.client", ast.parse("require('torch', extra='model')"))
    assert not out_of_place("lrem_os.eval.measures", ast.parse("import ranx"))
    assert broad_excepts("lrem_os.text", ast.parse("try: f()\nexcept Exception: pass"))
    assert broad_excepts("lrem_os.text", ast.parse("try: f()\nexcept (ValueError, Exception): pass"))
    assert not broad_excepts("lrem_os.text", ast.parse("try: f()\nexcept BaseException:\n    g()\n    raise"))
    trees = {
        "lrem_os": ast.parse(""),
        "lrem_os.a": ast.parse("import lrem_os.b"),
        "lrem_os.b": ast.parse("import torch.nn"),
    }
    assert "torch.nn" in loaded_by("lrem_os.a", trees)
    trees["lrem_os.b"] = ast.parse("def f():\n    import torch\nif TYPE_CHECKING:\n    import torch")
    assert "torch" not in loaded_by("lrem_os.a", trees)
