from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lrem_os.errors import NodeError
from lrem_os.node.home import NodeHome
from lrem_os.node.state import NodeState, end_process, live_process, read_state, write_state

STATE = NodeState(pid=1234, port=9200, version="3.6.0", plugins=("ml",), heap_mb=512, java_home="/java")


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome(tmp_path / "x")


def start(*args: str, code: str = "") -> subprocess.Popen[bytes]:
    """Start a Python that waits; returns once it does."""
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()", *args]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_a_state_comes_back_as_it_was(home: NodeHome) -> None:
    home.path.mkdir()
    assert read_state(home) is None
    write_state(home, STATE)
    assert read_state(home) == STATE


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1', '{"pid": 1, "plugins": [], "surprise": 2}'])
def test_a_broken_state_is_a_sentence(home: NodeHome, text: str) -> None:
    home.path.mkdir()
    home.state.write_text(text)
    with pytest.raises(NodeError, match=r"node\.json cannot be read"):
        read_state(home)


def test_our_process_is_known_by_its_command_line(home: NodeHome) -> None:
    process = start(home.marker)
    found = live_process(home, process.pid)
    assert found is not None
    assert found.pid == process.pid
    assert live_process(NodeHome(home.path.with_name("other")), process.pid) is None
    close(process)
    assert live_process(home, process.pid) is None


def test_a_recycled_process_id_is_not_ours(home: NodeHome) -> None:
    stranger = start("-Epath.data=/somewhere/else")
    assert live_process(home, stranger.pid) is None
    assert stranger.poll() is None
    close(stranger)


def test_a_zombie_is_not_alive(home: NodeHome) -> None:
    process = start(home.marker)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody took its exit status
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert live_process(home, process.pid) is None
    close(process)


def test_no_process_id_is_no_process(home: NodeHome) -> None:
    assert live_process(home, None) is None


def test_a_process_ends_when_asked(home: NodeHome) -> None:
    process = start(home.marker)
    found = live_process(home, process.pid)
    assert found is not None
    end_process(found)
    assert process.wait(0) == -signal.SIGTERM
    close(process)


def test_a_process_that_does_not_listen_is_killed(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrem_os.node.state.STOP_S", 0.2)
    process = start(home.marker, code="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    found = live_process(home, process.pid)
    assert found is not None
    end_process(found)
    assert process.wait(0) == -signal.SIGKILL
    close(process)


def test_a_process_that_is_gone_already_has_ended(home: NodeHome) -> None:
    process = start(home.marker)
    found = live_process(home, process.pid)
    assert found is not None
    close(process)
    end_process(found)
