"""The live page: it is told everything once and then what is new, by a server for this machine alone."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from qresearch.reports import live_folder
from qresearch.reports.dashboard import Dashboard
from qresearch.reports.dashboard_command import main, port
from qresearch.reports.live_folder import LiveFolder
from qresearch.store.index import collect
from qresearch.store.record import write_json


def write_record(folder, name, bits=8, **changes):
    record = {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {"weight": {"bits": bits}, "seed": 0},
        "config_hash": "0123456789ab",
        "overrides": [f"weight.bits={bits}"],
        "group": "0a1b2c3d",
        "metrics": {"top1": 90.0 + bits},
        "layers": [],
        "environment": {},
        "finished_at": "2026-11-23T12:00:00+00:00",
    }
    write_json(folder / name / "result.json", record | changes)


def paths(answer):
    return [row[0].removesuffix("/result.json") for row in answer["rows"]]


@pytest.fixture
def folder(tmp_path):
    for bits in (8, 4):
        write_record(tmp_path, f"sweep/{bits}", bits)
    return tmp_path


def ask(source, since=0, epoch=None):
    return json.loads(source.answer(source.epoch if epoch is None else epoch, since))


def test_before_the_first_reading_a_page_is_told_to_wait(folder):
    source = LiveFolder(folder)
    assert ask(source) == {"epoch": source.epoch, "trouble": None, "reading": True, "version": 0, "rows": []}


def test_everything_is_told_once_and_then_what_is_new(folder):
    source = LiveFolder(folder)
    source.refresh()
    first = ask(source)
    assert first["whole"] and paths(first) == ["sweep/4", "sweep/8"] and first["head"]["values"] == [[4, 8]]
    source.refresh()
    assert ask(source, first["version"]) == {
        "epoch": source.epoch,
        "trouble": None,
        "reading": False,
        "version": first["version"],
        "rows": [],
    }
    write_record(folder, "sweep/2", 2)
    source.refresh()
    second = ask(source, first["version"])
    assert not second["whole"] and paths(second) == ["sweep/2"] and second["removed"] == []
    assert second["head"]["values"] == [[4, 8, 2]]
    assert ask(source, second["version"])["rows"] == []
    assert paths(ask(source)) == ["sweep/2", "sweep/4", "sweep/8"]


def test_changed_and_removed_records_are_told(folder):
    source = LiveFolder(folder)
    source.refresh()
    version = ask(source)["version"]
    write_record(folder, "sweep/8", 8, metrics={"top1": 1.0})
    (folder / "sweep" / "4" / "result.json").unlink()
    source.refresh()
    answer = ask(source, version)
    assert paths(answer) == ["sweep/8"] and answer["removed"] == ["sweep/4/result.json"]
    write_record(folder, "sweep/4", 4)
    source.refresh()
    again = ask(source, version)
    assert sorted(paths(again)) == ["sweep/4", "sweep/8"] and again["removed"] == []


def test_a_page_of_another_server_is_told_everything(folder):
    source = LiveFolder(folder)
    source.refresh()
    for epoch, since in (("another", 1), (source.epoch, 17), (source.epoch, -1)):
        answer = ask(source, since, epoch)
        assert answer["whole"] and len(answer["rows"]) == 2


def test_what_another_process_has_collected_is_told_too(folder):
    source = LiveFolder(folder)
    source.refresh()
    write_record(folder, "sweep/2", 2)
    collect(folder)
    source.refresh()
    assert len(ask(source)["rows"]) == 3


def test_a_new_file_that_cannot_be_read_is_told(folder):
    source = LiveFolder(folder)
    source.refresh()
    version = ask(source)["version"]
    (folder / "bad").mkdir()
    (folder / "bad" / "result.json").write_text("{")
    source.refresh()
    answer = ask(source, version)
    assert len(answer["bad"]) == 1 and "bad" in answer["bad"][0] and answer["rows"] == []


def test_it_watches_and_says_what_stops_it(folder, monkeypatch):
    monkeypatch.setattr(live_folder, "EVERY_S", 0.01)
    monkeypatch.setattr(live_folder, "REST", 0)
    failing = threading.Event()
    found = live_folder.collect

    def collect_or_fail(path):
        if failing.is_set():
            raise OSError("the disk is full")
        return found(path)

    monkeypatch.setattr(live_folder, "collect", collect_or_fail)
    source = LiveFolder(folder)
    source.watch()
    wait_for(lambda: len(ask(source)["rows"]) == 2)
    failing.set()
    wait_for(lambda: ask(source, 1)["trouble"] == "the disk is full")
    assert len(ask(source)["rows"]) == 2
    write_record(folder, "sweep/2", 2)
    failing.clear()
    wait_for(lambda: len(ask(source)["rows"]) == 3 and ask(source, 2)["trouble"] is None)
    monkeypatch.setattr(live_folder, "EVERY_S", 1e6)  # the thread ends with the process


def test_curves_of_known_runs_alone(folder):
    write_json(folder / "sweep" / "8" / "curves.json", {"qat": [{"step": 1, "loss": 2.5}]})
    write_json(folder / "curves.json", {"qat": [{"step": 1, "loss": 1.0}]})
    source = LiveFolder(folder)
    assert source.curves("sweep/8/result.json") is None
    source.refresh()
    assert json.loads(source.curves("sweep/8/result.json") or b"") == {"qat": {"step": [1], "loss": [2.5]}}
    assert json.loads(source.curves("sweep/4/result.json") or b"") == {}
    for path in ("result.json", "sweep/../result.json", "../x/result.json", "/etc/passwd", ""):
        assert source.curves(path) is None


@pytest.fixture
def server(folder):
    source = LiveFolder(folder)
    source.refresh()
    server = Dashboard(source, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def get(server, path, host=None, method="GET"):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def test_the_page_and_its_data(server):
    status, headers, content = get(server, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"connect-src 'self'" in content and b'"live":true' in content
    status, headers, content = get(server, "/data")
    assert status == 200 and headers["Content-Type"] == "application/json" and len(json.loads(content)["rows"]) == 2
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    status, _, content = get(server, f"/data?epoch={server.source.epoch}&since=1")
    assert status == 200 and json.loads(content)["rows"] == []
    status, _, content = get(server, "/curves?run=sweep%2F8%2Fresult.json")
    assert (status, content) == (200, b"{}")


@pytest.mark.parametrize("path", ["/nothing", "/curves?run=../../x/result.json", "/curves", "/index.sqlite"])
def test_nothing_else_is_served(path, server):
    assert get(server, path)[0] == 404


@pytest.mark.parametrize(
    "query", ["since=x", "since=-1", "since=1e9", "since=&since=", "epoch=%00", "since=%C2%B2", "since=" + 5000 * "9"]
)
def test_a_question_that_makes_no_sense_is_answered_with_everything(query, server):
    status, _, content = get(server, f"/data?{query}")
    assert status == 200 and len(json.loads(content)["rows"]) == 2


def test_only_names_of_this_machine_are_answered(server):
    """Another name may have been made to point here (DNS rebinding); another port is a forwarded one."""
    number = server.server_address[1]
    for host in (f"127.0.0.1:{number}", f"localhost:{number}", "localhost", "LOCALHOST:9", "127.0.0.1:9000"):
        assert get(server, "/data", host)[0] == 200
    for host in ("example.com", f"example.com:{number}", "localhost.example.com", "127.0.0.1.nip.io", "", "[::1]", "0"):
        status, _, content = get(server, "/data", host)
        assert status == 403 and b"rows" not in content


def test_nothing_can_be_sent(server):
    assert get(server, "/data", method="POST")[0] == 501


def test_it_listens_on_the_loopback_interface_alone(server):
    assert server.server_address[0] == "127.0.0.1" and server.socket.getsockname()[0] == "127.0.0.1"


def test_a_reader_who_leaves_is_no_error(server, capsys):
    for _ in range(5):
        with socket.create_connection(server.server_address[:2]) as leaving:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
            leaving.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert get(server, "/data")[0] == 200
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_port_in_use_is_one_message(server, tmp_path):
    number = server.server_address[1]
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "--port", str(number)])
    assert caught.value.code == (
        f"error: port {number} is in use, perhaps by another dashboard; --port 0 picks a free one."
    )


def test_a_folder_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "none")])
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith(f"error: {tmp_path / 'none'}: there is no such folder.")


@pytest.mark.parametrize("text", ["65536", "-1", "http", "", "8.5"])
def test_what_is_no_port_exits_with_2(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), f"--port={text}"])
    assert caught.value.code == 2
    assert f"{text!r} is no port; give a number from 0 to 65535" in capsys.readouterr().err


def test_ports():
    assert [port(text) for text in ("0", "8642", "65535")] == [0, 8642, 65535]


def test_ctrl_c_ends_it_quietly(folder):
    """As a person starts it: an address in the first line, answers at it, and no traceback in the end."""
    # A shell starts what is in the background with Ctrl-C turned off, and children inherit that.
    listen = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{listen}; from qresearch.reports.dashboard_command import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=os.environ) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        address = line.split()[1]
        assert line == f"dashboard: {address} shows {folder}; Ctrl-C ends it.\n"
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        wait_for(lambda: len(json.loads(answer_of(connection))["rows"]) == 2)
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout.read().strip() == "" and process.stderr.read() == ""


def answer_of(connection):
    connection.request("GET", "/data")
    return connection.getresponse().read()


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
