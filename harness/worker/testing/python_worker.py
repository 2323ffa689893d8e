#!/usr/bin/env python3
"""A worker in Python: rms_norm.forward in plain loops, float32. Shows that PROTOCOL.md is enough to write one.

It has no device memory, so there is nothing to fence or poison: it reports no findings.
"""
import math
import mmap
import os
import struct
import time

COMPLETED, NOT_SUPPORTED = 0, 1
IN, OUT, INOUT, SAVED, TAP = range(5)


def text(s):
    return struct.pack("<I", len(s.encode())) + s.encode()


def send(kind, payload):
    frame = struct.pack("<II", len(payload), kind) + payload
    while frame:
        frame = frame[os.write(4, frame):]


def receive(count):
    data = b""
    while len(data) < count:
        piece = os.read(3, count - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def get(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def text(self):
        size = self.get("I")
        self.at += size
        return self.data[self.at - size:self.at].decode()


def read_request(r):
    shared_bytes, _limit, _seed, _schedule, _poison, _count = r.get("QQQiII")
    op = r.text()
    attributes = {}
    for _ in range(r.get("I")):
        name, kind = r.text(), r.get("I")
        attributes[name] = r.text() if kind == 2 else r.get("qd"[kind])
    tensors = {}
    for _ in range(r.get("I")):
        name = r.text()
        role, flags, code, bits, lanes, rank = r.get("IIBBHI")
        shape = [r.get("q") for _ in range(rank)]
        for _ in range(rank):
            r.get("q")  # strides: it computes on the compact elements
        offset, size = r.get("QQ")
        tensors[name] = dict(role=role, dtype=(code, bits, lanes), shape=shape, offset=offset, size=size)
    return shared_bytes, op, attributes, tensors


def rms_norm(memory, attributes, tensors):
    """Returns the bytes of the written saved tensor."""
    x, w, y = (tensors[n] for n in ("input.hidden_states", "param.weight", "output.hidden_states"))
    rows, width = x["shape"]
    weight = struct.unpack_from(f"<{width}f", memory, w["offset"])
    rstds = []
    for row in range(rows):
        h = struct.unpack_from(f"<{width}f", memory, x["offset"] + 4 * width * row)
        rstds.append(1 / math.sqrt(sum(v * v for v in h) / width + attributes["eps"]))
        values = (a * b * rstds[-1] for a, b in zip(weight, h))
        struct.pack_into(f"<{width}f", memory, y["offset"] + 4 * width * row, *values)
    saved = tensors.get("saved")
    if not saved:
        return 0
    struct.pack_into(f"<{rows}f", memory, saved["offset"], *rstds)
    return 4 * rows


def main():
    memory = mmap.mmap(5, 0)
    send(1, struct.pack("<III", 0x59415341, 2, 0) + text("") +
         text("python") + text("cpu:python") + struct.pack("<III", 1, 0, 0))
    while True:
        length, _kind = struct.unpack("<II", receive(8))
        shared_bytes, op, attributes, tensors = read_request(Reader(receive(length)))
        if shared_bytes > len(memory):
            memory = mmap.mmap(5, shared_bytes)
        if op != "rms_norm.forward" or tensors["input.hidden_states"]["dtype"] != (2, 32, 1):
            send(3, struct.pack("<I", NOT_SUPPORTED) + text("only rms_norm.forward in float32") + struct.pack("<Q", 0))
            continue
        start = time.perf_counter()
        saved_bytes = rms_norm(memory, attributes, tensors)
        seconds = time.perf_counter() - start
        absent = [i for i, t in enumerate(tensors.values()) if t["role"] == TAP]
        send(3, struct.pack("<I", COMPLETED) + text("") + struct.pack("<Q", saved_bytes) +
             struct.pack("<7i", 0, 0, 1, 0, 0, 0, 0) + text("loops") + struct.pack("<d", seconds) +
             struct.pack("<III", 0, 0, 0) + struct.pack(f"<I{len(absent)}I", len(absent), *absent) + struct.pack("<I", 0))


main()
