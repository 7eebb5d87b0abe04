"""The demonstration's service: says which version it is, and whether it is well. Only the standard library."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

VERSION = "v1"
GREETING = "Hello"
HEALTHY = True


class Hello(BaseHTTPRequestHandler):
    """Answers `/` with greeting and version, `/health` with 200 or 503."""

    def do_GET(self) -> None:
        if self.path == "/health":
            status, text = (200, "well\n") if HEALTHY else (503, "the greeting database is not there\n")
        else:
            status, text = 200, f"{GREETING} from {VERSION}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the log for what matters."""


class Server(ThreadingHTTPServer):
    """Takes over its port at once after a restart, and leaves without waiting for idle clients."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        """Bind without asking the name service what this host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", int(self.server_address[1])


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    sys.stdout.write(f"hello {VERSION} listens on port {port}\n")
    sys.stdout.flush()
    Server(("127.0.0.1", port), Hello).serve_forever()
