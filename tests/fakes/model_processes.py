"""Models that can be killed, and do badly as a file says: ``python -m tests.fakes.model_processes KIND …``.

``server PORT CONTROL``: an OpenAI-compatible server. ``mind CONFIG CONTROL``: ``lrem-os serve`` with a ``Mind`` in its
process. The control file holds the name of a fault, or nothing; it is read whenever the model is asked.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.fakes.mind import Mind
from tests.fakes.openai_server import Body, FakeOpenAI, Fault, fewer_choices

SLOW_S = 1.0


def _with_text(text: Any) -> Callable[[Body], Body]:
    return lambda answer: answer | {"choices": [choice | {"text": text} for choice in answer["choices"]]}


def _nan(answer: Body) -> Body:
    return answer | {"data": [row | {"embedding": [float("nan")] * 8} for row in answer["data"]]}


def _wrong_length(answer: Body) -> Body:
    return answer | {"data": [row | {"embedding": [1.0, 2.0]} for row in answer["data"]]}


OF_A_SERVER: Mapping[str, Fault] = {
    "": Fault(),
    "hang": Fault(hang=True),
    "slow": Fault(delay_s=SLOW_S),
    "error": Fault(500),
    "busy": Fault(503),
    "drop": Fault(drop=True),
    "html": Fault(body=b"<html>not JSON</html>"),
    "utf8": Fault(body=b'{"choices": [{"index": 0, "text": "\xff\xfe", "finish_reason": "stop"}]}'),
    "nothing": Fault(body=b""),
    "no choices": Fault(body=b'{"choices": []}'),
    "no list": Fault(body=b'{"choices": "none", "data": "none"}'),
    "no text": Fault(edit=_with_text(7)),
    "fewer": Fault(edit=fewer_choices),
    "nan": Fault(edit=_nan),
    "wrong length": Fault(edit=_wrong_length),
}


def serve_openai(port: int, control: Path) -> None:
    """Serve until killed."""
    with FakeOpenAI(port=port) as server:
        server.fault = lambda _call: OF_A_SERVER[control.read_text()]
        print("ready", flush=True)
        while True:
            time.sleep(3600)


def _hang(control: Path, found: Any) -> Any:
    name = control.read_text()
    while control.read_text() == name:
        time.sleep(0.02)
    return found


def _die(_found: Any) -> Any:
    raise SystemExit(1)


def _fail(_found: Any) -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _changed(found: Any, change: Callable[[Any], Any]) -> Any:
    """Return vectors, or a ``Reasoned`` with its vectors, changed."""
    return change(found) if isinstance(found, np.ndarray) else type(found)(change(found.vectors), found.reasonings)


def of_a_mind(control: Path) -> Callable[[str], Callable[[Any], Any]]:
    """Return what makes the fault of one part, ``embed`` or ``reason``."""
    faults: Mapping[str, Callable[[Any], Any]] = {
        "die": _die,
        "error": _fail,
        "hang": lambda found: _hang(control, found),
        "none": lambda _found: None,
        "nan": lambda found: _changed(found, lambda vectors: vectors * np.nan),
        "shape": lambda found: _changed(found, lambda vectors: vectors[:, :3]),
        "zeros": lambda found: _changed(found, lambda vectors: vectors * 0),
    }

    def of(part: str) -> Callable[[Any], Any]:
        def fault(found: Any) -> Any:
            name = json.loads(control.read_text() or "{}").get(part)
            return found if name is None else faults[name](found)

        return fault

    return of


def serve_mind(config: str, control: Path) -> None:
    """Serve as ``lrem-os serve`` does, but with a ``Mind``."""
    from lrem_os import api
    from lrem_os.config import load_settings

    of = of_a_mind(control)
    mind = Mind(embedding=of("embed"), reasoning=of("reason"))
    api.serve(
        load_settings(config).settings,
        embedder=mind,
        on_listening=lambda url: print(f"lrem-os serves {url}, ", file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    kind, first, second = sys.argv[1:]
    if kind == "server":
        serve_openai(int(first), Path(second))
    else:
        serve_mind(first, Path(second))
