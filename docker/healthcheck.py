#!/usr/bin/env python3
"""Asks the service of this container whether it lives: exit code 0 or 1. What Docker's HEALTHCHECK runs.

It asks ``/live``, which says no only where a restart helps; ``/ready`` also depends on OpenSearch. Port and TLS are
those of the configuration, as for the service: a port given as ``--port`` is not seen here, so set ``serve.port``.
"""

from __future__ import annotations

import http.client
import ssl
import sys

from lrem_os.config import load_settings
from lrem_os.errors import LremError

_TIMEOUT_S = 5.0


def main() -> int:
    """Return the exit code, after a line that says why."""
    try:
        serve = load_settings().settings.serve
    except LremError as exc:
        print(f"unhealthy: {exc}")
        return 1
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serve.host, serve.host)  # noqa: S104
    if serve.cert_file:
        # of this container, over its own loopback: what name the certificate has does not matter
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, serve.port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, serve.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        print(f"unhealthy: no answer at port {serve.port}: {exc}")
        return 1
    finally:
        connection.close()
    print(f"{'healthy' if status == 200 else 'unhealthy'}: /live answers {status}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
