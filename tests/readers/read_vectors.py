"""Reads the vectors of the envelope as a program in Python would, and prints its results as JSON.

Usage: read_vectors.py envelope-vectors.json

It knows the page docs/internals/envelope.md and nothing of the Rust code. Each part of an entry has
one function. An extension of the format (a shape, a flag, a form of the payload) is a change of
`head` or `payload`. It has no keys, so an encrypted value is a miss.
"""

import json
import sys

import lz4.block
import msgpack
import xxhash
import zstandard

VERSION = 2
KEY = b"user:42"
KINDS = ["value", "absence", "lease", "guard"]
NIL, U64, BIN = 0xC0, 0xCF, 0xC6
ZSTD, LZ4, ENCRYPTED = 1, 2, 4
# A reader refuses a payload that expands beyond this.
MOST = 4 << 20
LEVELS = 128


class Corrupt(Exception):
    pass


class Newer(Exception):
    pass


def number(entry, at, size):
    return int.from_bytes(entry[at : at + size], "big")


def head(entry):
    """The header by its constant offsets, and the offset of what follows it."""
    if len(entry) < 35 or not 0x90 <= entry[0] <= 0x9F:
        raise Corrupt
    if 2 <= entry[1] <= 0x7F:
        raise Newer
    markers = {0: 0x9D, 1: 1, 3: 0xCD, 6: 0xCE, 11: U64, 20: 0xCE, 25: 0xCE}
    if entry[2] > 3 or any(entry[at] != marker for at, marker in markers.items()):
        raise Corrupt
    kind = KINDS[entry[2]]
    stamp = number(entry, 12, 8)
    header = {
        "kind": kind,
        "version": number(entry, 4, 2),
        "shape": number(entry, 7, 4),
        "stamp_micros": stamp >> 12,
        "stamp_random": stamp & 0xFFF,
        "key": number(entry, 21, 4),
        "sum": number(entry, 26, 4),
    }
    if entry[30] in (ZSTD, LZ4, ENCRYPTED, ZSTD | ENCRYPTED, LZ4 | ENCRYPTED):
        header["flags"] = entry[30]
    elif entry[30] != NIL:
        raise Newer
    at = 33
    if entry[31] == U64:
        if len(entry) < 51:
            raise Corrupt
        if entry[40] != U64 or kind != "value":
            raise Newer
        claim = number(entry, 41, 8)
        header["fresh_until_millis"] = number(entry, 32, 8)
        header["claimed_until_millis"] = (claim >> 24) * 10
        header["claim_token"] = claim & 0xFFFFFF
        at = 49
    elif entry[31] != NIL or entry[32] != NIL:
        raise Newer
    if entry[at] == NIL:
        if entry[at + 1] != NIL:
            raise Newer
        return header, at + 2
    if entry[at] != U64:
        raise Newer
    if len(entry) < at + 10:
        raise Corrupt
    array = 0x90 <= entry[at + 9] <= 0x9F or entry[at + 9] == 0xDC
    if not array or kind in ("lease", "guard"):
        raise Newer
    header["clock"] = number(entry, at + 1, 8)
    header["tags"] = None
    return header, at + 9


def tags(rest):
    """The tags, and the offset of what follows them; None if they are damaged."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(rest)
    try:
        names = [unpacker.unpack() for _ in range(unpacker.read_array_header())]
    except Exception:
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return names, unpacker.tell()


def standing(header, shape, now):
    if header["kind"] == "guard" or header["kind"] == "value" and header["version"] > VERSION:
        return "protected"
    if header["kind"] != "value" or header["version"] < VERSION or header["shape"] != shape:
        return "replaceable"
    return "stale" if header.get("fresh_until_millis", now + 1) <= now else "own"


def until(epoch, header):
    """The time until which the epoch of a tag leaves an entry fresh; None: it is invalidated."""
    hard, due, soft, start, length = (msgpack.unpackb(bytes.fromhex(epoch)) + [0, 0, 0, 0])[:5]
    if header["clock"] < hard:
        return None
    if header["clock"] < due:
        return 0
    if header["clock"] >= soft:
        return 2**64
    # The random bits of the stamp spread the entries over the time.
    return start + length * header["stamp_random"] // 4095


def by_name(document):
    """The fields of a compact value are in the order of the type."""
    if not isinstance(document, tuple) or len(document) != 2:
        raise Corrupt
    return {"id": document[0], "name": document[1]}


def is_whole_user(document):
    return (
        isinstance(document, dict)
        and type(document.get("id")) is int
        and isinstance(document.get("name"), str)
    )


def unpacked(content, flags):
    """The document in the `bin` of a compressed payload."""
    if content[0] != BIN or number(content, 1, 4) != len(content) - 5:
        raise Corrupt
    size, compressed = number(content, 5, 4), content[9:]
    if size > MOST:
        raise Corrupt
    try:
        if flags == ZSTD:
            return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=size)
        return lz4.block.decompress(compressed, uncompressed_size=size)
    except Exception:
        raise Corrupt from None


def payload(document, header):
    """The value: the only document, within bounds, and a `User`; None for an encrypted one."""
    flags = header.get("flags", 0)
    if flags & ENCRYPTED:
        return None
    if flags:
        document = unpacked(document, flags)
    try:
        value = msgpack.unpackb(document, strict_map_key=False, use_list=False)
    except Exception:
        raise Corrupt from None
    if header["shape"] != 0:
        value = by_name(value)
    if levels(value) > LEVELS or not is_whole_user(value):
        raise Corrupt
    return {"id": value["id"], "name": value["name"]}


def levels(value):
    deepest, todo = 0, [(value, 0)]
    while todo:
        part, level = todo.pop()
        deepest = max(deepest, level)
        if isinstance(part, dict):
            todo += [(inner, level + 1) for inner in (*part.keys(), *part.values())]
        elif isinstance(part, (list, tuple)):
            todo += [(inner, level + 1) for inner in part]
    return deepest


def hash32(data, seed=0):
    return xxhash.xxh3_64_intdigest(data, seed) & 0xFFFFFFFF


def get(entry, header, at, shape, epochs, now):
    """The value; None for a miss."""
    if header["kind"] in ("value", "absence") and header["key"] != hash32(KEY):
        raise Corrupt
    rest, document = entry[at:], entry[at:]
    if "clock" in header:
        found = tags(rest)
        if found is None:
            if header["kind"] == "value":
                raise Corrupt
            return None
        header["tags"], end = found
        document = rest[end:]
        ends = [until(epochs[tag], header) if tag in epochs else None for tag in header["tags"]]
        if any(end is None or end <= now for end in ends):
            return None
    if standing(header, shape, now) != "own":
        return None
    seed = header.get("flags", 0) << 56 | KINDS.index(header["kind"]) << 48
    seed |= header["version"] << 32 | header["key"]
    if header["sum"] != hash32(rest, seed):
        raise Corrupt
    return payload(document, header)


def described(vector, shape, epochs, now):
    entry = bytes.fromhex(vector["hex"])
    result = {"name": vector["name"]}
    header = None
    try:
        header, at = head(entry)
        result["header"] = header
        result["standing"] = standing(header, shape, now)
        value = get(entry, header, at, shape, epochs, now)
    except Newer:
        return result | {"header": "newer", "standing": "protected", "get": "miss"}
    except Corrupt:
        if header is None:
            result |= {"header": None, "standing": "corrupt"}
        return result | {"get": "corrupt"}
    if value is None:
        return result | {"get": "miss"}
    # A tool that knows nothing of the offsets finds the same.
    elements = msgpack.unpackb(entry, strict_map_key=False)
    assert len(elements) == 13 and elements[4] >> 12 == header["stamp_micros"], vector["name"]
    assert elements[2] == header["version"] and elements[11] == header.get("tags"), vector["name"]
    return result | {"get": "value", "value": value}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    epochs, now = vectors["epochs"], vectors["now_millis"]
    compact = vectors["compact_shape"]
    results = [described(vector, 0, epochs, now) for vector in vectors["vectors"]]
    results += [described(vector, compact, epochs, now) for vector in vectors["compact_vectors"]]
    print(json.dumps(results))


main()
