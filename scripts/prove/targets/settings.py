"""Config files and the environment. A target of `fuzz`.

They are settings or a `UsageError`; and `config set` in any file that can be read sets one thing and leaves the rest.
"""

from __future__ import annotations

import contextlib
import os

from fedctl import config
from fedctl.errors import Denied, UsageError

from .typist import scratch

ABOUT = "config files and the environment"
INCLUDE = ("fedctl.config",)
WORDS = (b'hub = "off"', b"tenant = ", b"timeout = ", b'"""', b"'''", b"[[a]]", b"[a]", b"a.b = ", b"\\u0000",
         b"\\ud800", b"inf", b"1979-05-27", b"# x\n", b"\r\n", b"\0", b"home = ", b"token = ", b'"10s"', b"~",
         b"debug_level = ")  # fmt: skip
FOLDER = scratch()
_NAMES = [name for key in config.KEYS.values() for name in key.environment if name != "FEDCTL_HOME"]


def originals() -> list[bytes]:
    """Return files that can be read, and values."""
    whole = b'# ours\nhub = "off"  # never\ntenant = "acme"\ntimeout = "10s"\nformat = "json"\ndebug_level = "trace"\n'
    other = b'color = """never"""\nmodel = \'/x y\'\n'
    return [b"\x00" + whole, b"\x00" + other, b"\x01ws://h:1", b"\x021h", b"\x05off"]


def check(data: bytes) -> None:
    """Read the bytes as a file, or as the value of a variable, as the first one says."""
    if not data:
        return
    kind, text = data[0], data[1:]
    if kind:
        name = _NAMES[kind % len(_NAMES)]
        value = os.fsdecode(text).replace("\0", "")  # no environment has any
        with contextlib.suppress(UsageError, Denied):
            config.load({"home": str(FOLDER)}, {name: value}).pairs()
        return
    path = FOLDER / "config.toml"
    path.write_bytes(text)
    try:
        before = config.load({"home": str(FOLDER)}, {})
    except UsageError:
        try:  # what cannot be read is not built upon: that is refused, and the file is as it was
            config.set_key(config.Settings(home=FOLDER), "tenant", "other")
        except UsageError:
            assert path.read_bytes() == text
        return
    config.set_key(before, "tenant", "other")
    after = config.load({"home": str(FOLDER)}, {})
    assert after.tenant == "other"
    for (key, old, _), (_, new, _) in zip(before.pairs(), after.pairs(), strict=True):
        assert key == "tenant" or old == new, f"{key} was {old!r} and is {new!r}"
