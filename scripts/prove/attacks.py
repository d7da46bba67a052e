"""What ill-mannered peers do to a hub, in bytes on sockets of their own. A module, not a program.

Each attack returns figures: (what, measured, whether that is as it should be; None: merely told).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import random
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from targets import mutants

from fedctl.client.remote import RemoteCaller
from fedctl.clock import Clock
from fedctl.messages.hub import Subscribe
from fedctl.messages.memory import ListEpisodes, StoreEpisodes
from fedctl.messages.pool import PushItems
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft
from fedctl.wire.frames import prefixed
from fedctl.wire.session import ClientSession

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

Figure = tuple[str, object, bool | None]

CONT, TEXT, PING = 0, 1, 9
LET_GO_S = 12.0
"""Within what an ill-mannered peer is to be let go: 5 s for a hello, as many for a close handshake, and the machine."""
MIB = 1 << 20


class Target(NamedTuple):
    """The hub, and a good token for it: the worst peers are those that were let in."""

    port: int
    unix: str
    token: str


def frame(
    payload: bytes, *, opcode: int = TEXT, fin: bool = True, rsv1: bool = False, says: int | None = None
) -> bytes:
    """Return a masked WebSocket frame (RFC 6455, 5.2); `says` is the length that its header claims."""
    length = len(payload) if says is None else says
    head = bytes([fin << 7 | rsv1 << 6 | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += b"\xfe" + struct.pack("!H", length)
    else:
        head += b"\xff" + struct.pack("!Q", length)
    return head + b"\0\0\0\0" + payload  # a mask of zeros: the payload as it is


class Raw:
    """One connection, in order: connect, upgrade, say hello, then whatever."""

    def __init__(self, target: Target, *, upgrade: bool = True, hello: bool = True, extensions: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", target.port), timeout=20)
        self.response = b""
        if upgrade:
            self.socket.sendall(upgrade_request(target.port, extensions))
            while b"\r\n\r\n" not in self.response:
                data = self.socket.recv(4096)
                if not data:
                    break
                self.response += data
        if hello:
            self.socket.sendall(frame(ClientSession().hello(client="flood", token=target.token)))
            assert b"welcome" in self.socket.recv(4096), "the hub did not welcome a good token"

    def pour(self, chunk: bytes, most_bytes: int, within_s: float = 20.0) -> int:
        """Send a chunk again and again until it is not taken any more; return how many bytes were."""
        self.socket.settimeout(within_s)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < most_bytes:
                self.socket.sendall(chunk)
                sent += len(chunk)
        return sent

    def ended(self, within_s: float = LET_GO_S) -> bool:
        """Return whether the hub closes the connection in time."""
        deadline = time.monotonic() + within_s
        with contextlib.suppress(ConnectionError):
            while (left_s := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left_s)
                try:
                    if not self.socket.recv(1 << 16):
                        break
                except TimeoutError:
                    return False
        return time.monotonic() < deadline

    def close(self) -> None:
        """Hang up without a word."""
        hang_up(self.socket)


def hang_up(connection: socket.socket) -> None:
    """Close with a reset, as a process that dies or a cable that is cut and mended."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def upgrade_request(port: int, extensions: str = "") -> bytes:
    """Return the beginning of a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    more = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    return (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


# -- one connection that says too much ------------------------------------------------------------------------------


def bombs(target: Target, much: float) -> Iterator[Figure]:
    """200 MB of zeros: deflated, with the extension offered and without; and as they are."""
    size_mb = round(200 * max(much, 0.2))
    deflate = zlib.compressobj(9, wbits=-15)
    packed = b"".join(deflate.compress(bytes(MIB)) for _ in range(size_mb)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
    for hello in (False, True):
        for extensions in ("permessage-deflate; client_max_window_bits", ""):
            raw = Raw(target, hello=hello, extensions=extensions)
            who = f"{'after' if hello else 'before'} the welcome{', offered' if extensions else ''}"
            accepted = b"permessage-deflate" in raw.response.lower()
            with contextlib.suppress(OSError):
                raw.socket.sendall(frame(packed, rsv1=True))
            yield f"deflate bomb {who}: refused and closed", raw.ended() and not accepted, True
            raw.close()
        raw = Raw(target, hello=hello)
        taken = raw.pour(frame(b"", says=size_mb * MIB) + bytes(64 << 10), size_mb * MIB)
        yield f"{size_mb} MB as they are, {'after' if hello else 'before'} the welcome: closed", raw.ended(), True
        yield "  bytes that were taken, to be thrown away until it closed", taken, None
        raw.close()


def headers(target: Target, _much: float) -> Iterator[Figure]:
    """Frames that claim a terabyte."""
    for hello in (False, True):
        raw = Raw(target, hello=hello)
        raw.socket.sendall(frame(b"x" * 100, says=1 << 40))
        yield f"1 TB header {'after' if hello else 'before'} the welcome: closed", raw.ended(), True
        raw.close()
    local = socket.socket(socket.AF_UNIX)
    local.settimeout(LET_GO_S)
    local.connect(target.unix)
    local.sendall(b"\xff\xff\xff\xff" + bytes(1000))
    with contextlib.suppress(ConnectionError):
        while local.recv(1 << 16):
            pass
    yield "4 GB header on the Unix socket: closed", True, True
    local.close()


def fragments(target: Target, much: float) -> Iterator[Figure]:
    """Messages that never end, in pieces of 1 kB and of nothing; and pings whose answers nobody reads."""
    for hello in (False, True):
        for size in (1024, 0):
            raw = Raw(target, hello=hello)
            raw.socket.sendall(frame(b'{"frame":"call', fin=False))
            piece = frame(b"x" * size, opcode=CONT, fin=False)
            chunk = piece * max(1, (64 << 10) // len(piece))
            taken = raw.pour(chunk, round(64 * MIB * max(much, 0.2)))
            who = f"{'after' if hello else 'before'} the welcome"
            yield f"fragments of {size} bytes without end, {who}: closed", raw.ended(), True
            yield "  bytes taken", taken, None
            raw.close()
    raw = Raw(target)
    pings = frame(b"x" * 125, opcode=PING) * 500
    taken = raw.pour(pings, round(400 * MIB * max(much, 0.25)), 3.0 if much >= 1 else 1.0)
    yield "pings whose answers are not read: MB taken before it was held back or closed", taken // MIB, taken < 64 * MIB
    raw.close()


def nested(target: Target, _much: float) -> Iterator[Figure]:
    """JSON that is deep, and JSON that is wide; the session goes on where the frame was within its limit."""

    head = b'{"frame":"call","id":%d,"request":{"op":"memory.store","episodes":[{"id":"j%d","task":"t","input":%b}]}}'

    def call(number: int, inside: bytes) -> bytes:
        return head % (number, number, inside)

    wide = b"{" + b",".join(b'"k%d":1' % number for number in range(250_000)) + b"}"
    shapes = {
        "1,000,000 levels": b"[" * 1_000_000,
        "33 levels, closed": b"[" * 33 + b"]" * 33,
        "an object of 250,000 keys": wide,
        "an array of 1,500,000 numbers": b"[" + b"1," * 1_500_000 + b"1]",
        "an integer of 1,000,000 digits": b"9" * 1_000_000,
        "250,000 keys that are the same": b"{" + b",".join([b'"k":1'] * 250_000) + b"}",
        "half a million empty objects": b"[" + b"{}," * 500_000 + b"{}]",
    }
    raw = Raw(target)
    raw.socket.settimeout(20)
    for number, (name, inside) in enumerate(shapes.items(), start=1):
        begun = time.monotonic()
        raw.socket.sendall(frame(call(number, inside)))
        said = b""
        while not said.endswith(b"}"):
            said += raw.socket.recv(1 << 16)
        refused = b'"usage"' in said
        yield f"{name}: refused, in {(time.monotonic() - begun) * 1000:.0f} ms", refused, True if refused else None
    raw.socket.sendall(frame(call(99, b'"well"')))
    yield "the session goes on", b'"ok":true' in raw.socket.recv(1 << 16), True
    raw.close()


# -- many connections -----------------------------------------------------------------------------------------------


def half_open(target: Target, much: float) -> Iterator[Figure]:
    """Connections that say nothing, on both sockets; all are let go."""
    many = round(1000 * much)
    left = asyncio.run(_silent(target, many))
    yield f"{many:,} silent connections: left open after {LET_GO_S:g} s", left, left == 0


def slow_loris(target: Target, much: float) -> Iterator[Figure]:
    """Connections that send their upgrade, or their hello, a byte at a time."""
    many = round(300 * much)
    left = asyncio.run(_dripping(target, many))
    yield f"{many:,} slow handshakes: left open after {LET_GO_S:g} s", left, left == 0


def lingering(target: Target, much: float) -> Iterator[Figure]:
    """Both of those at once: they are waited for, each as long as the other."""
    with ThreadPoolExecutor(2) as threads:
        for told in threads.map(lambda one: list(one(target, much)), (half_open, slow_loris)):
            yield from told


async def _silent(target: Target, many: int) -> int:
    async def one(number: int) -> bool:
        try:
            if number % 4:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                if number % 4 == 3:
                    writer.write(upgrade_request(target.port))
            else:
                reader, writer = await asyncio.open_unix_connection(target.unix)
        except OSError:
            return False
        return await _stays(reader, writer)

    return sum(await asyncio.gather(*map(one, range(many))))


async def _stays(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    try:
        async with asyncio.timeout(LET_GO_S):
            while await reader.read(1 << 16):
                pass
    except TimeoutError:
        return True
    except OSError:
        pass
    finally:
        writer.transport.abort()
    return False


async def _dripping(target: Target, many: int) -> int:
    async def one(number: int) -> bool:
        text = upgrade_request(target.port)
        if number % 2:
            text += frame(ClientSession().hello(token=target.token))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        except OSError:
            return False
        begun = 0 if not number % 2 else len(upgrade_request(target.port))

        async def drip() -> None:
            with contextlib.suppress(OSError):
                writer.write(text[:begun])
                for byte in text[begun:]:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.4)

        dripping = asyncio.create_task(drip())
        try:
            return await _stays(reader, writer)
        finally:
            dripping.cancel()

    return sum(await asyncio.gather(*map(one, range(many))))


async def _each(many: int, at_once: int, one: Callable[[int], Coroutine[None, None, None]]) -> None:
    numbers = iter(range(many))

    async def some() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(some() for _ in range(at_once)))


def disconnects(target: Target, much: float) -> Iterator[Figure]:
    """Peers that hang up abruptly: at once, in the upgrade, after the hello, in the middle of a call, of a frame."""
    many = round(10_000 * much)
    refused = 0
    hello = frame(ClientSession().hello(client="flood", token=target.token))
    session = ClientSession()
    asked = frame(session.call(ListEpisodes(limit=10))[1])

    async def one(number: int) -> None:
        nonlocal refused
        stage = number % 6
        try:
            if stage == 5:
                reader, writer = await asyncio.open_unix_connection(target.unix)
                writer.write(prefixed(ClientSession().hello()))
                await reader.read(100)
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                if stage >= 1:
                    writer.write(upgrade_request(target.port)[: None if stage > 1 else 60])
                if stage >= 2:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(hello)
                    await reader.read(4096)
                if stage >= 3:
                    writer.write(asked if stage == 3 else asked[:50])
        except (OSError, EOFError, asyncio.IncompleteReadError):
            refused += 1
            return
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    asyncio.run(_each(many, 20, one))
    yield f"{many:,} abrupt disconnects: made", many - refused, refused < many / 100


def malformed(target: Target, much: float, seed: int = 1) -> Iterator[Figure]:
    """Damaged frames from a seeded corpus, in sessions that were let in, on both sockets."""
    many = round(10_000 * much)
    stream = itertools.islice(mutants.mutants(mutants.valid_client_frames(), seed), many)
    sessions = sent = silent = 0
    dice = random.Random(seed)

    async def one(_number: int) -> None:
        nonlocal sessions, sent, silent
        local = dice.random() < 0.5
        while sent < many:
            connection = socket.socket(socket.AF_UNIX) if local else socket.socket()
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, target.unix if local else ("127.0.0.1", target.port))
            wrap: Callable[[bytes], bytes] = prefixed if local else frame
            if not local:
                await loop.sock_sendall(connection, upgrade_request(target.port))
                await loop.sock_recv(connection, 4096)
            await loop.sock_sendall(connection, wrap(ClientSession().hello(token=target.token)))
            await loop.sock_recv(connection, 4096)
            sessions += 1
            try:
                for damaged in stream:
                    sent += 1
                    await loop.sock_sendall(connection, wrap(damaged))
                    async with asyncio.timeout(5):
                        said = await loop.sock_recv(connection, 1 << 16)
                    if not said or b'"id":null' in said or said[0] == 0x88:
                        break
            except TimeoutError:
                silent += 1
            except OSError:
                pass
            finally:
                connection.close()

    asyncio.run(_each(8, 8, one))
    yield f"{many:,} malformed frames: sent", sent, sent == many
    yield "  in so many sessions", sessions, None
    yield "  frames that were answered by nothing for 5 s", silent, silent == 0


def slow_readers(target: Target, much: float) -> Iterator[Figure]:
    """Sessions that subscribe and never read, and sessions that ask for much and never read."""
    items = round(40_000 * max(much, 0.4))
    listeners = [_deaf(target, Subscribe()) for _ in range(round(20 * max(much, 0.2)))]
    new_id = Clock().new_id
    good = RemoteCaller(f"ws://127.0.0.1:{target.port}", token=target.token)
    try:
        good.call(StoreEpisodes(episodes=[EpisodeDraft(id=new_id(), task="t", input="x" * 300) for _ in range(500)]))
        for _ in range(0, items, 500):  # their ids are as long as one may be: they are what an event consists of
            good.call(PushItems(pool="news", items=[ItemDraft(id=f"{new_id():x<190}") for _ in range(500)]))
        time.sleep(1.0)  # by now the hub has sent what it will: what is read from here on was held back
        dropped = sum(_is_cut_off(one) for one in listeners)
        yield (
            f"{len(listeners)} listeners that never read, events of {items:,} items: dropped",
            dropped,
            dropped == len(listeners),
        )
        many = round(250 * max(much, 0.2))
        askers = [_deaf(target, *[ListEpisodes(limit=1000)] * many) for _ in range(round(20 * max(much, 0.2)))]
        time.sleep(3.0 if much >= 1 else 1.0)
        yield "askers that never read: the hub answers others", len(good.call(ListEpisodes(limit=3)).episodes), True
        for one in [*listeners, *askers]:
            hang_up(one)
    finally:
        good.close()


def _deaf(target: Target, *requests: object) -> socket.socket:
    """Return a session that has asked and does not read; its buffer is as small as the system allows."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", target.port))
    connection.settimeout(10)
    connection.sendall(upgrade_request(target.port))
    connection.recv(4096)
    session = ClientSession()
    connection.sendall(frame(session.hello(client="deaf", token=target.token)))
    connection.recv(4096)
    with contextlib.suppress(OSError):
        for request in requests:
            connection.sendall(frame(session.call(request)[1]))
    return connection


def _is_cut_off(connection: socket.socket) -> bool:
    """Return whether the hub has dropped a connection: what is in the buffers, then a reset or the end."""
    connection.settimeout(5)
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


ATTACKS: dict[str, Callable[[Target, float], Iterator[Figure]]] = {
    "bombs": bombs,
    "headers": headers,
    "fragments": fragments,
    "nested": nested,
    "half-open": half_open,
    "slow-loris": slow_loris,
    "disconnects": disconnects,
    "malformed": malformed,
    "slow-readers": slow_readers,
}
