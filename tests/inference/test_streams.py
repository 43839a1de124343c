"""Streams: read like a camera from a server of this machine, and a bounded time where nothing answers."""

import http.server
import socket
import threading
import time
from pathlib import Path

import cv2
import pytest
from roads import picture, write_video

from inference import inputs, video

pytestmark = pytest.mark.usefixtures("elsewhere")


class Server(http.server.BaseHTTPRequestHandler):
    """Five images as a camera's MJPEG stream, which then ends or stays silent; or a file of the folder."""

    def do_GET(self):
        path = Path(self.path[1:])
        if path.is_file():
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            self.wfile.write(path.read_bytes())
            return
        if not self.path.startswith("/live"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
        self.end_headers()
        for seed in range(5):
            data = cv2.imencode(".jpg", picture(seed))[1].tobytes()
            header = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(header.encode() + data + b"\r\n")
        self.wfile.flush()
        if self.path == "/live/silent":
            self.server.silence.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.silence = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.silence.set()
    server.shutdown()
    server.server_close()


def test_a_live_stream_is_read_like_a_camera(run, address):
    status, out, err = run(f"{address}/live", "--save-images", "out")
    name = f"{address}/live"
    assert [line for line in out if line.startswith(name)] == [f"{name} frame {i}" for i in range(1, 6)]
    assert status == 1 and f"error: {name}: breaks off after frame 5" in err
    assert [path.suffix for path in Path("out").iterdir()] == [".mp4"]


def test_a_stream_that_falls_silent_breaks_off(run, address, monkeypatch):
    monkeypatch.setattr(video, "TIMEOUT_S", 1)
    status, _, err = run(f"{address}/live/silent")
    assert status == 1 and err == [f"error: {address}/live/silent: breaks off after frame 5"]


def test_a_video_of_a_server_ends_like_a_file(run, address):
    write_video("drive.avi", 3)
    status, out, err = run(f"{address}/drive.avi")
    assert (status, err) == (0, []) and sum("frame" in line for line in out) == 3


@pytest.mark.parametrize("kind", ["refuses", "silent", "no such file"])
def test_a_dead_address_is_one_line_in_a_bounded_time(run, address, monkeypatch, kind):
    monkeypatch.setattr(video, "TIMEOUT_S", 1)
    monkeypatch.setattr(inputs, "TIMEOUT_S", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == "silent":
            silent.listen()
        port = silent.getsockname()[1]
        name = f"{address}/none.mp4" if kind == "no such file" else f"rtsp://127.0.0.1:{port}/x"
        began = time.monotonic()
        status, out, err = run(name)
    assert (status, out) == (1, []) and time.monotonic() - began < 8
    assert len(err) == 1 and err[0].startswith(f"error: {name}: nothing there that can be read as a video")
