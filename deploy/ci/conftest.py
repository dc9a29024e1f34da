"""A qrjump server for pytest: copy this file into the folder of your tests. It wants the program qrjump in PATH.

def test_my_shop(qrjump):
    assert my_shop(qrjump + "/cgi-bin/token") == ...
"""

import os
import socket
import subprocess

import pytest


@pytest.fixture(scope="session")
def qrjump_server(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    data = str(tmp_path_factory.mktemp("qrjump"))
    server = subprocess.Popen(["qrjump", "serve", "--dev", "--listen", address, "--data", data])
    os.environ["QRJUMP_SERVER"] = "http://" + address
    try:
        # Returns immediately if the server has exited.
        subprocess.run(["qrjump", "health", "--wait", "60s", "--pid", str(server.pid)], check=True)
        yield os.environ["QRJUMP_SERVER"]
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def qrjump(qrjump_server):
    """The address of a server that is back at its seed."""
    subprocess.run(["qrjump", "reset", "--yes"], check=True, stdout=subprocess.DEVNULL)
    return qrjump_server
