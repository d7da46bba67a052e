"""The hub: this home's own, or one elsewhere."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from fedctl.doctor.report import Found, broken, failure, note, ok, warning
from fedctl.errors import Denied, FedctlError
from fedctl.model.shown import lasting, size

if TYPE_CHECKING:
    from fedctl.doctor.patient import Patient

CERTIFICATE_LEAST_S = 14 * 86_400
CONNECT_S = 5.0


def hub(patient: Patient) -> Found:
    """The hub answers, is ready, and is of this version."""
    from fedctl import __version__
    from fedctl.model.time import from_rfc3339

    began_s = patient.clock.monotonic_s()
    try:
        info = patient.hub_info
    except FedctlError as error:
        renew = "fedctl token issue --tenant T > FILE   # on the hub's machine" if isinstance(error, Denied) else None
        return broken(error, renew)
    took_ms = (patient.clock.monotonic_s() - began_s) * 1000
    if info is None:
        why = (
            "not asked (--hub off)" if patient.settings.hub == "off" else "none runs: commands work on the home itself"
        )
        return ok(why, running=False)
    up_s = max(0.0, (patient.clock.now_ms() - from_rfc3339(info.started_at)) / 1000)
    figures: dict[str, Any] = {
        "running": True, "version": info.version, "url": info.url, "pid": info.pid, "ready": info.ready,
        "answer_ms": round(took_ms, 1), "up_s": round(up_s),
    }  # fmt: skip
    told = f"{info.url}, up {lasting(up_s)}, answers in {took_ms:.1f} ms"
    again = f"{patient.command('hub stop')} && {patient.command('hub start --detach')}"
    if info.version != __version__:
        return warning(f"the hub is fedctl {info.version}, this is {__version__}; {told}",
                       None if patient.remote else again, **figures)  # fmt: skip
    if not info.ready:
        return warning(f"{told}, but is not ready", patient.command("hub status --wait 30s"), **figures)
    return ok(told, **figures)


def room(patient: Patient) -> Found | None:
    """The hub's disk has room, and it takes writes."""
    if not (patient.remote and patient.has_hub) or patient.hub is None:
        return None
    from fedctl.messages.hub import GetHubStats

    try:
        stats = patient.hub.call(GetHubStats()).stats
    except Denied:
        return note("the hub's figures were not looked at: that needs an operator's token")
    figures: dict[str, Any] = {"free_bytes": stats.disk_free_bytes, "wal_bytes": stats.wal_bytes}
    told = f"the hub has {size(stats.disk_free_bytes)} free, its store {size(stats.store_bytes)}"
    if stats.read_only:
        return failure(f"{told}: writes are refused", patient.command("retention prune --dry-run"), **figures)
    return ok(told, **figures)


def certificate(patient: Patient) -> Found | None:
    """The hub's certificate holds for a while yet."""
    url = patient.settings.hub
    if not url.startswith("wss://"):
        return None
    import ssl
    from urllib.parse import urlsplit

    from fedctl.client.tls import Trust, context_for

    settings = patient.settings
    trust = Trust(ca=settings.tls_ca, cert=settings.client_cert, key=settings.client_key)
    context = context_for(url, trust) or ssl.create_default_context()
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection((host, parts.port or 443), CONNECT_S))
            certified = stack.enter_context(context.wrap_socket(plain, server_hostname=host)).getpeercert() or {}
    except (OSError, ValueError) as error:
        why = getattr(error, "verify_message", None) or error
        return failure(f"no TLS with {host}: {why}", patient.command("doctor --tls-ca FILE"))
    ends_s = ssl.cert_time_to_seconds(str(certified["notAfter"])) - patient.clock.now_ms() / 1000
    if ends_s < CERTIFICATE_LEAST_S:
        told = f"the certificate of {host} ends in {lasting(max(0.0, ends_s))}"
        fix = "fedctl hub cert --out tls --renew   # on the hub's machine"
        return warning(told, fix, None, ends_s=round(ends_s))
    return ok(f"the certificate of {host} holds for {lasting(ends_s)}", ends_s=round(ends_s))
