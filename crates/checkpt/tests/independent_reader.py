"""Reads a checkpoint with nothing but this page's standard library and docs/format/checkpt.md.

Usage: independent_reader.py FILE

Checks the structure and every CRC, decodes raw, zero and LZ4 chunks, and prints one line per partition:
GADDR SIZE TAG CRC32-of-its-bytes, or "-" instead of the CRC where a chunk is zstd, which the standard library
does not decode before 3.14. The digests are not checked: xxh3 is not in the standard library.
"""

import json
import struct
import sys
import zlib

try:
    from compression import zstd
except ImportError:
    zstd = None

MAGIC = b"\x89OLCK\r\n\x1a"
END_MAGIC = b"\x1aOLCKEN\xd9"
MARKER = b"\xd7REC"
HEADER, INFO, PTAB, CHUNK, INDEX, FOOTER = 1, 2, 3, 4, 5, 7
ZERO, RAW, LZ4, ZSTD = 0, 1, 2, 3


def need(condition, what):
    if not condition:
        raise SystemExit(f"not a checkpoint: {what}")


def lz4_block(source, size):
    out, at = bytearray(), 0

    def length(nibble):
        nonlocal at
        total = nibble
        while nibble == 15:
            total, at = total + source[at], at + 1
            if source[at - 1] != 255:
                break
        return total

    while True:
        token, at = source[at], at + 1
        literals = length(token >> 4)
        out += source[at : at + literals]
        at += literals
        if at == len(source):
            break
        offset, at = source[at] | source[at + 1] << 8, at + 2
        match = length(token & 15) + 4
        need(0 < offset <= len(out), "LZ4 offset")
        for _ in range(match):
            out.append(out[-offset])
    need(len(out) == size, "decoded size")
    return bytes(out)


def record(data, at):
    head = data[at : at + 64]
    kind, style, digest_kind, flags = head[4:8]
    stored, raw, number, gaddr = struct.unpack_from("<4Q", head, 8)
    crc, head_crc = struct.unpack_from("<2I", head, 56)
    need(head[:4] == MARKER and digest_kind == 1, f"record at {at}")
    need(zlib.crc32(head[:60]) == head_crc, f"checksum of the record header at {at}")
    payload = data[at + 64 : at + 64 + stored]
    need(len(payload) == stored and zlib.crc32(payload) == crc, f"checksum of the payload at {at + 64}")
    return kind, style, flags, raw, number, gaddr, payload, at + 64 + stored


def content(style, payload, raw):
    if style == ZERO:
        return bytes(raw)
    if style == RAW:
        return payload
    if style == LZ4:
        return lz4_block(payload, raw)
    need(style == ZSTD, f"style {style}")
    return zstd.decompress(payload) if zstd else None


def read(data):
    need(data[:8] == MAGIC and zlib.crc32(data[:60]) == struct.unpack_from("<I", data, 60)[0], "preamble")
    need(struct.unpack_from("<H", data, 8)[0] == 1, "version")
    footer_at = len(data) - 160
    footer = data[footer_at:]
    need(footer[:5] == MARKER + bytes([FOOTER]) and footer[152:] == END_MAGIC, "footer")
    need(zlib.crc32(footer[:148]) == struct.unpack_from("<I", footer, 148)[0], "checksum of the footer")
    need(footer[8:24] == data[40:56], "identity")
    ptab_at, chunk_at, index_at, size, partition_count, chunk_count, used, _ = struct.unpack_from("<8Q", footer, 40)
    need(size == len(data), "size of the file")
    need(chunk_at <= index_at <= footer_at, "sections")

    at, window_bytes, partitions, chunks, index = 64, 0, [], {}, []
    while at < footer_at:
        start = at
        kind, style, flags, raw, number, gaddr, payload, at = record(data, at)
        if kind == HEADER:
            need(start == 64, "HEADER is the first record")
            window_bytes = struct.unpack_from("<Q", payload, 16)[0]
        elif kind == INFO:
            json.loads(payload)
        elif kind == PTAB:
            need(ptab_at <= start < chunk_at, "PTAB section")
            partitions += struct.iter_unpack("<3Q", payload)
        elif kind == CHUNK:
            need(chunk_at <= start < index_at, "CHUNK section")
            chunks[number] = (start, gaddr, raw, content(style, payload, raw))
        elif kind == INDEX:
            need(start >= index_at, "INDEX section")
            index += [struct.unpack_from("<2Q2I", payload, i) for i in range(0, len(payload), 64)]
        else:
            need(flags & 1, f"unknown record kind {kind}")
    need(at == footer_at, "the records end at the footer")
    need([(n, chunks[n][0]) for n in chunks] == [entry[:2] for entry in index], "index")
    need(len(partitions) == partition_count and len(index) == chunk_count, "counts")
    need(sum(size for _, size, _ in partitions) == used, "used bytes")
    return window_bytes, partitions, chunks


def main():
    with open(sys.argv[1], "rb") as file:
        window_bytes, partitions, chunks = read(file.read())
    taken = dict.fromkeys(chunks, 0)
    for gaddr, size, tag in partitions:
        crc, at, end = 0, gaddr, gaddr + size
        while at < end:
            window = at // window_bytes
            part = min(end, (window + 1) * window_bytes) - at
            body, start = chunks[window][3], taken[window]
            need(start or chunks[window][1] == at, "first used byte of the window")
            if body is None or crc is None:
                crc = None
            else:
                need(start + part <= len(body), "used bytes of the window")
                crc = zlib.crc32(body[start : start + part], crc)
            taken[window] += part
            at += part
        print(gaddr, size, tag, "-" if crc is None else crc)
    need(all(taken[window] == chunks[window][2] for window in chunks), "every byte belongs to a partition")


main()
