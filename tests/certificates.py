"""Certificates of a test's own."""

import ssl
import subprocess
from pathlib import Path


def certificate(folder: Path, *, name: str = "localhost", address: str = "127.0.0.1") -> Path:
    """A file with a key and a certificate for a name and an address, signed with that key."""
    file = folder / "collector.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=a test's collector"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", f"subjectAltName=DNS:{name},IP:{address}"),
            *("-keyout", file, "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    with file.open("ab") as both:
        both.write((folder / "certificate.pem").read_bytes())
    return file


def server_context(file: Path) -> ssl.SSLContext:
    """What a server with this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
