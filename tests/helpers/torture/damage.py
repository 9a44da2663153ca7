"""Damage to bytes, by chance."""


def flipped(data, chance):
    """(the bytes with one bit changed, where)."""
    changed = bytearray(data)
    place = chance.randrange(len(changed))
    changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed), place


def damage_one(folder, chance, *, spared=lambda name: False):
    """Damage one file below `folder`: a bit mostly, or it is cut, or gone. Returns what was done."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    path = chance.choice([path for path in files if not spared(str(path.relative_to(folder)))])
    name, data = path.relative_to(folder), path.read_bytes()
    act = chance.choice(["flip"] * 6 + ["cut", "gone"])
    if act == "gone":
        path.unlink()
        return f"{name} gone"
    if act == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
        return f"{name} cut"
    changed, place = flipped(data, chance)
    path.write_bytes(changed)
    return f"{name}, byte {place} flipped"


def mutated(data, chance):
    """A file's bytes as damage leaves them: flips, a cut, a hole, a part twice, a part of zeros, other sizes."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        if not data:
            break
        act = chance.choice(["bit", "byte", "length", "cut", "hole", "twice", "zeros", "noise", "insert"])
        begin = chance.randrange(len(data))
        end = min(len(data), begin + chance.choice([1, 4, 64, 1024, len(data) // 10 + 1]))
        if act == "bit":
            data[begin] ^= 1 << chance.randrange(8)
        elif act == "byte":
            data[begin] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif act == "length":
            data[begin : begin + 4] = chance.choice(
                [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"]
            )
        elif act == "cut":
            del data[begin:]
        elif act == "hole":
            del data[begin:end]
        elif act == "twice":
            data[begin:begin] = data[begin:end]
        elif act == "zeros":
            data[begin:end] = bytes(end - begin)
        elif act == "noise":
            data[begin:end] = chance.randbytes(end - begin)
        else:
            data[begin:begin] = chance.randbytes(chance.choice([1, 3, 100]))
    return bytes(data)
