"""Files spoiled at random: bytes cut, flipped and doubled, values of documents put in place of others.

All that is random comes from a `random.Random`: Hypothesis's own in the tests, which shrinks what fails, and a seeded one in
`runs/fuzz.py`.
"""

import io
import json
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["NASTY_TEXTS", "Spoil", "spoil_archive", "spoil_bytes", "spoil_header", "spoil_json", "spoil_json_lines",
           "spoil_text"]  # fmt: skip

Spoil = Callable[[bytes, Random], bytes]

NASTY_TEXTS = (
    "", " ", "\0", "\n", "a\nb", "a\r\n\tb", "../../../etc/passwd", "/etc/passwd", "no", "no no no", "x" * 5000, "no " * 500,
    "\ud800", "\udcff.png", "a\u200bcat with n\u200bo hat", "\u202eno cars", "لا سيارات", "ca\u0301r" + "\u0301" * 200, "\ufeffno cats",
    "n\u0627o", "🚫🚗", "nan", "1e999", "\x1b[2J", "%s%n{0}", "a" * 300 + ".png", "..", ".", "~", "no\u2028cars", "'\"\\,;\t",
)  # fmt: skip
_NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**18, -(10**18), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    [], {}, [[]], [None], {"": None}, *NASTY_TEXTS,
)  # fmt: skip
_LENGTHS = (
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_DEEP = 100_000  # brackets: more than any reader follows


def spoil_bytes(content: bytes, random: Random) -> bytes:
    """A few places of the bytes are not what they were."""
    for _ in range(random.choice((1, 1, 2, 5))):
        content = random.choice(_WAYS)(content, random)
    return content


def spoil_text(content: bytes, random: Random) -> bytes:
    """A nasty text, or bytes, somewhere in it; or as in `spoil_bytes`."""
    if random.random() < 0.4:
        return spoil_bytes(content, random)
    text = random.choice(NASTY_TEXTS).encode("utf-8", "surrogatepass")
    at = _place(content, random)
    return content[:at] + text + content[at + random.choice((0, 1, 8)) :]


def spoil_json(content: bytes, random: Random) -> bytes:
    """A document of which some values are others, gone or there twice; sometimes its bytes are spoiled."""
    if random.random() < 0.15:
        return spoil_bytes(content, random)
    if random.random() < 0.02:
        return b"[" * _DEEP
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        document = _spoil_value(document, random)
    return _dumps(document)


def spoil_json_lines(content: bytes, random: Random) -> bytes:
    """One line is spoiled as a document is, or the whole as text."""
    lines = content.splitlines(keepends=True)
    if not lines or random.random() < 0.2:
        return spoil_text(content, random)
    row = random.randrange(len(lines))
    try:
        lines[row] = spoil_json(lines[row], random) + b"\n"
    except ValueError:
        lines[row] = b"{}\n"
    return b"".join(lines)


def spoil_header(content: bytes, random: Random) -> bytes:
    """A safetensors file whose header says something else; sometimes its bytes are spoiled."""
    length = int.from_bytes(content[:8], "little")
    if random.random() < 0.3:
        return spoil_bytes(content[: length + 512], random)
    header = spoil_json(content[8 : 8 + length], random)
    said = random.choice(_LENGTHS) if random.random() < 0.1 else len(header)
    return said.to_bytes(8, "little") + header + content[8 + length :]


def spoil_archive(content: bytes, random: Random) -> bytes:
    """A zip of which one entry is spoiled and its checksum right again; sometimes its bytes are spoiled."""
    if random.random() < 0.3:
        return spoil_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([n for n in sorted(entries) if n.endswith(".pkl")] * 8 + sorted(entries))
    if random.random() < 0.1:
        del entries[name]
    else:
        entries[name] = spoil_bytes(entries[name], random)
    if random.random() < 0.05:
        entries[random.choice(("../../ran", "/ran", "archive/../ran", name + "/"))] = b"1"
    spoiled = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if random.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(spoiled, "w", how) as archive:
        for each, entry in entries.items():
            archive.writestr(each, entry)
    return spoiled.getvalue()


def _dumps(document: Any) -> bytes:
    return json.dumps(document).encode()


def _spoil_value(value: Any, random: Random) -> Any:
    """Go down at random, and put something else where the way ends."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        way = random.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.15:
            return value | {random.choice(NASTY_TEXTS): value[key]}
        return value | {key: _spoil_value(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        row = random.randrange(len(value))
        way = random.random()
        if way < 0.1:
            return value[:row] + value[row + 1 :]
        if way < 0.15:
            return [*value[:row], value[row], value[row], *value[row:]]
        return [*value[:row], _spoil_value(value[row], random), *value[row + 1 :]]
    if isinstance(value, str) and value and random.random() < 0.3:
        at = random.randrange(len(value))
        return value[:at] + random.choice(NASTY_TEXTS) + value[at:]
    return random.choice(_NASTY)


def _place(content: bytes, random: Random) -> int:
    # Headers decide most: half of all places are near the beginning or the end.
    near = random.random()
    if near < 0.35:
        return random.randrange(min(len(content), 64) + 1)
    if near < 0.5:
        return len(content) - random.randrange(min(len(content), 64) + 1)
    return random.randrange(len(content) + 1)


def _flip(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _drop(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + content[at + 1 + random.randrange(16) :]


def _double(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return (
        content[:at] + content[at : at + 1 + random.randrange(64)] * random.choice((2, 3, 50)) + content[at:]
    )


def _number(content: bytes, random: Random) -> bytes:
    at, width = _place(content, random), random.choice((1, 2, 4, 8))
    number = random.choice(_LENGTHS) % 256**width
    return content[:at] + number.to_bytes(width, random.choice(("little", "big"))) + content[at + width :]


def _zeros(content: bytes, random: Random) -> bytes:
    at, size = _place(content, random), random.choice((1, 16, 4096))
    return content[:at] + bytes(size) + content[at + size :]


_WAYS: tuple[Spoil, ...] = (_flip, _flip, _cut, _drop, _double, _number, _zeros)
