"""A real nginx before the API, for tests and benchmarks."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack_process import free_port, wait_until

NGINX_CONF = Path(__file__).parents[1] / "docker" / "nginx.conf"


@contextmanager
def running_nginx(nginx: str, api_port: int, folder: Path) -> Iterator[str]:
    """Serve the API behind the product's own configuration; yields the URL.

    Only the addresses and the folders are others than there.
    """
    port = free_port()
    config = (
        NGINX_CONF.read_text()
        .replace("/tmp/", f"{folder}/")  # noqa: S108
        .replace("/dev/stderr", f"{folder}/error.log")
        .replace("/dev/stdout", f"{folder}/access.log")
        .replace("listen 8080;", f"listen 127.0.0.1:{port};")
        .replace("http://api:8000", f"http://127.0.0.1:{api_port}")
    )
    (folder / "nginx.conf").write_text(config)
    process = subprocess.Popen(
        [nginx, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]
    )
    try:
        wait_until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
