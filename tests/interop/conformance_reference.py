"""The reference library and ours judge every case of the conformance suite, and many headers made
from these and from realistic ones, alike: verdict, kind of error, tensors, metadata. Only the
three documented differences are allowed.

    SAFEFUSE_MUTATIONS   how many headers are made (default 40000)
    SAFEFUSE_SEED        seed of the random choices (default 1)
"""

import collections
import json
import os
import pathlib
import random
import struct
import sys
import tempfile

from support import interop

(safetensors,) = interop.require("safetensors")
version = getattr(safetensors, "__version__", "0")
if tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
    interop.skip(f"safetensors is {version}: the verdicts are those of 0.8")

# What the reference says, and what we call it. Its JSON library does not tell malformed text from a
# wrong type in one word.
kinds = {
    "header too small": {"header_too_short"},
    "header too large": {"header_too_large"},
    "invalid header length": {"header_past_end"},
    "invalid UTF-8 in header": {"header_not_utf8"},
    "invalid JSON in header": {"header_not_json", "header_bad_entry", "unknown_dtype"},
    "invalid offset for tensor": {"bad_offsets"},
    "overflow computing buffer size": {"size_overflow"},
    "The slice is slicing for subbytes": {"partial_byte"},
    "invalid shape, data type, or offset": {"size_mismatch"},
    "incomplete metadata": {"data_truncated", "trailing_bytes"},
}
# The reference accepts these; we do so only on request.
documented = {
    "last_duplicate_wins": "a tensor's name is there twice",
    "array_entries": "a tensor is an array",
    "object_dtypes": "a dtype is an object",
}
seed = int(os.environ.get("SAFEFUSE_SEED", "1"))
mutations = int(os.environ.get("SAFEFUSE_MUTATIONS", "40000"))
generator = random.Random(seed)


def framed(text, data=b"", length=None):
    return struct.pack("<Q", len(text) if length is None else length) + text + data


# Making headers -----------------------------------------------------------------------------------

sizes = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
interesting_numbers = [
    "0", "1", "2", "3", "4", "8", "-0", "-1", "00", "1.0", "1e0", "1e400", "255", "256", "65536",
    "4294967296", "9007199254740993",
    "2305843009213693951", "2305843009213693952", "9223372036854775808", "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999", "null", '"4"', "[]",
]  # fmt: skip
tokens = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\t", b"\n", b"\r", b"\0", b"\x7f",
    b"\xff", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80",
    b"\\u0074", b"\\ud83d\\ude00", b"\\ud83d", b"\\n", b"\\x", b"null", b"true", b"{}", b"[]", b"0",
    b"-", b".", b"e", b"+", b"1e5",
    b'"__metadata__":{},', b'"__metadata__":null,', b'"x":[{"y":1e3}],', b'"dtype":"U8",',
    b'"shape":[],', b"\xef\xbb\xbf",
]  # fmt: skip


def spelled_string(text):
    """A string with some of its characters spelled as escapes."""
    out = '"'
    for character in text:
        point = ord(character)
        if character in '"\\' or point < 32 or generator.random() < 0.04:
            units = [point] if point < 0x10000 else [0xD800 + (point - 0x10000 >> 10), 0xDC00
                + (point - 0x10000 & 0x3FF)]
            for unit in units:
                out += "\\u" + (f"{unit:04x}" if generator.random() < 0.5 else f"{unit:04X}")
        else:
            out += character
    return out + '"'


def realistic():
    """The table of a correct file in one of many spellings, sometimes with one mistake."""
    def space():
        return generator.choice(
            [" ", "\n", "\t", " \r\n"]) if spacious and generator.random() < 0.3 else ""

    spacious = generator.random() < 0.4
    plain = generator.random() < 0.3
    entries, at, names = [], 0, []
    for i in range(generator.choice([0, 1, 1, 2, 3, 5, 12])):
        dtype = generator.choice(list(sizes))
        shape = [generator.choice([0, 1, 1, 2, 3, 4, 8, 17])
            for _ in range(generator.choice([0, 1, 1, 2, 2, 3, 9]))]
        bits = sizes[dtype]
        for extent in shape:
            bits *= extent
        if bits % 8 and generator.random() < 0.9:
            shape.append(8)
            bits *= 8
        name = generator.choice(
            [f"model.layers.{i}.mlp.experts.{i}.down_proj.weight", f"w{i}", f"é{i}", f"😀{i}",
             f"a/{i}\n", "t"])
        if name in names and generator.random() < 0.9:
            name += str(i)
        names.append(name)
        entries.append([name, dtype, shape, at, at + (bits + 7) // 8])
        at += (bits + 7) // 8
    size = at
    if not plain:
        generator.shuffle(entries)
    for _ in range(generator.choice([0, 0, 0, 1, 1, 2])):  # a mistake in the table
        if not entries:
            break
        entry = generator.choice(entries)
        what = generator.randrange(8)
        if what == 0:
            entry[generator.choice([3, 4])] += generator.choice([1, 2, 4, -1])
        elif what == 1 and entry[2]:
            entry[2][generator.randrange(len(entry[2]))] = generator.choice(
                [0, 1, 2, 2**32, 2**61, 2**63, 2**64 - 1])
        elif what == 2:
            entry[1] = generator.choice(list(sizes) + ["F7", "u8", ""])
        elif what == 3:
            entries.remove(entry)
        elif what == 4:
            entries.insert(generator.randrange(len(entries) + 1), list(entry))
        elif what == 5:
            entry[3], entry[4] = entry[4], entry[3]
        elif what == 6:
            entry[0] = generator.choice(entries)[0]
        else:
            entry[2] = [*entry[2], generator.choice([1, 1, 0, 2])]

    members = []
    for name, dtype, shape, begin, end in entries:
        text = json.dumps(name, ensure_ascii=False) if plain else spelled_string(name)
        kind = spelled_string(dtype) if not plain else f'"{dtype}"'
        if generator.random() < 0.02:
            kind = "{%s%s:null%s}" % (space(), kind, space())
        extents = "[" + space() + ("," + space()).join(map(str, shape)) + space() + "]"
        offsets = f"[{begin}{space()},{space()}{end}]"
        if generator.random() < 0.02:
            members.append(f"{text}:[{kind},{extents},{offsets}]")
            continue
        fields = ['"dtype"' + space() + ":" + space() + kind, '"shape":' + space() + extents,
            '"data_offsets":' + offsets]
        if not plain and generator.random() < 0.2:
            generator.shuffle(fields)
        if not plain and generator.random() < 0.1:
            fields.insert(generator.randrange(4),
                spelled_string(generator.choice(["x", "", "Dtype", "__metadata__"])) + ":"
                + generator.choice(["1", "null", "[[],{}]", '"\\u0000"', "1e-400"]))
        members.append(text + space() + ":" + space() + "{" + space()
            + ("," + space()).join(fields) + space() + "}")
    for _ in range(generator.choice([0, 0, 1, 1, 1, 1, 1, 1, 1, 2])):
        value = generator.choice(["{}", "null", '{"format":"pt"}', '{"format":"pt"}',
            '{"a":"b","\\u0061":"c"}', '{"z":"😀","a":"\\""}', '{"a":1}', "[]"])
        key = '"__metadata__"' if generator.random() < 0.9 else '"__met\\u0061data__"'
        members.insert(generator.choice([0, len(members)]), key + ":" + space() + value)
    text = space() + "{" + space() + ("," + space()).join(members) + "}" + space()
    if generator.random() < 0.5:
        text += " " * (-len(text.encode()) % 8)
    return text.encode(), max(0, size + generator.choice([0] * 12 + [1, -1]))


def mutated(text, others):
    """Changes a few bytes, numbers or pieces."""
    text = bytearray(text)
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        at = generator.randrange(len(text) + 1)
        what = generator.randrange(9)
        if what == 0:
            text[at:at] = generator.choice(tokens)
        elif what == 1:
            del text[at : at + generator.choice([1, 1, 2, 5, 20])]
        elif what == 2 and at < len(text):
            text[at] = generator.randrange(256)
        elif what == 3 and at < len(text):
            text[at] ^= 1 << generator.randrange(8)
        elif what == 4:
            text[at:at] = text[generator.randrange(len(text) + 1) :][: generator.randrange(60)]
        elif what in (5, 6):
            places = [i for i, c in enumerate(text) if chr(c).isdigit()
                and (i == 0 or not chr(text[i - 1]).isdigit())]
            if places:
                first = last = generator.choice(places)
                while last < len(text) and chr(text[last]).isdigit():
                    last += 1
                text[first:last] = generator.choice(interesting_numbers).encode()
        elif what == 7:
            other = generator.choice(others)
            text[at:] = other[generator.randrange(len(other) + 1) :]
        else:
            text = text[:at] + generator.choice([b" ", b"\n", b"\t "]) + text[at:]
    return bytes(text)


def data_for(text):
    """As many bytes of data as the header asks for, if known."""
    try:
        header = json.loads(text)
        return max((entry["data_offsets"][1] for name, entry in header.items() if name
            != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return generator.choice([0, 4])


def made_headers(cases):
    texts = [case[8:][: struct.unpack("<Q", case[:8])[0]] for case in cases if 8 < len(case) < 4096]
    for i in range(mutations):
        if i % 2:
            text, size = realistic()
            if generator.random() < 0.3:
                text = mutated(text, texts)
        else:
            text = mutated(generator.choice(texts), texts)
            size = data_for(text)
        size = size if isinstance(size, int) and 0 <= size < 65536 else 4
        length = None if generator.random() < 0.98 else max(0, len(text)
            + generator.choice([-1, 1, -2, 8]))
        yield framed(text, generator.randbytes(size), length)


# Judging ------------------------------------------------------------------------------------------


def reference_verdict(contents, path):
    """The reference's verdict on a file: the kinds of error that fit, or its tensors and metadata.
    """
    try:
        found = safetensors.deserialize(contents)
    except safetensors.SafetensorError as error:
        said = str(error).removeprefix("Error while deserializing: ")
        fitting = [names for start, names in kinds.items() if said.startswith(start)]
        interop.check(len(fitting) == 1, "the reference says something new:", error)
        return fitting[0], None, None
    found = dict(found)
    path.write_bytes(contents)
    with safetensors.safe_open(path, framework="numpy") as file:
        order, metadata = file.offset_keys(), file.metadata()
    interop.check(sorted(order) == sorted(found), "the reference contradicts itself:", order,
        list(found))
    tensors, at = {}, 0
    for name in order:
        tensor = found[name]
        tensors[name] = (tensor["dtype"], list(tensor["shape"]), at, at + len(tensor["data"]),
            bytes(tensor["data"]))
        at += len(tensor["data"])
    return None, tensors, metadata


def compare(labels, files, work):
    """Compares both verdicts on every file. Returns counts of what was seen."""
    (work / "packed").write_bytes(b"".join(struct.pack("<Q", len(each)) + each for each in files))
    # Not splitlines(), which accepts more line ends.
    ours = interop.run("write_conformance_suite", "--judge", work / "packed")
    ours = ours.rstrip("\n").split("\n")
    ours = ours if files else []
    interop.check(len(ours) == len(files), "judged", len(ours), "of", len(files), "files")
    seen, differences = collections.Counter(), collections.defaultdict(list)
    for label, contents, line in zip(labels, files, ours):
        our = json.loads(line)
        errors, tensors, metadata = reference_verdict(contents, work / "one.safetensors")

        def check(condition, *what):
            if not condition:
                failed = pathlib.Path(tempfile.gettempdir()) / "safefuse-differs.safetensors"
                failed.write_bytes(contents)
                interop.check(False, label, *what, "| ours:", line[:500], "| theirs:", errors
                    or tensors, metadata, "| kept as", failed)

        if errors is not None:
            check(our["reference"] != "accept", "is refused by the reference")
            # Which of two tensors at one place it meets first differs from run to run, and so does
            # what it says of them.
            if our["reference"] not in errors:
                seen["of these with one of several errors that the reference gives in turn"] += 1
                again = {kind for _ in range(200) for kind in reference_verdict(contents, None)[0]}
                check(our["reference"] in again, "is refused by the reference for another reason")
            check(our["default"] != "accept", "is accepted by default and refused by the reference")
            seen["refused by both"] += 1
            continue
        check(our["reference"] == "accept", "is accepted by the reference")
        start = 8 + struct.unpack("<Q", contents[:8])[0]
        table = {
            name: (dtype, shape, begin, end, contents[start + begin : start + end])
            for name, dtype, shape, begin, end in our["tensors"]
        }
        check(len(table) == len(our["tensors"]) and table == tensors, "has another table")
        check(our["metadata"] == metadata, "has other metadata")
        if our["default"] == "accept":
            check(our["lenient"] == "accept",
                "is accepted by default and not by the lenient profile")
            check(our["needs"] == [], "needs what the default does not grant")
            seen["accepted by both"] += 1
        else:
            check(set(our["needs"]) & set(documented), "differs in a way that is not documented")
            for need in our["needs"]:
                differences[need].append(label)
            seen["accepted by the reference alone, as documented"] += 1
        if our["strict"] == "accept":
            check(our["default"] == "accept", "is accepted by the strict profile alone")
    return seen, differences


with tempfile.TemporaryDirectory() as directory:
    work = pathlib.Path(directory)
    interop.run("write_conformance_suite", work / "suite")
    suite = json.loads((work / "suite" / "verdicts.json").read_text("utf-8"))["cases"]
    labels, files = [], []
    for case in suite:
        made_of = case.get("made_of")
        # Gigabytes: through a sparse file, if the OS makes one.
        if made_of and made_of["zeros"]:
            if sys.platform.startswith("linux"):
                path = work / "large.safetensors"
                with open(path, "wb") as file:
                    file.write(bytes.fromhex(made_of["hex"]))
                    file.truncate(case["file_bytes"])
                try:
                    with safetensors.safe_open(path, framework="numpy") as file:
                        interop.check(case["reference"] == "accept", case["case"])
                        table = [[n, file.get_slice(n).get_dtype(), file.get_slice(n).get_shape()]
                            for n in file.offset_keys()]
                        interop.check(table == [tensor[:3] for tensor in case["tensors"]],
                            case["case"], table)
                except safetensors.SafetensorError as error:
                    interop.check(case["reference"] == "data_truncated"
                        and "incomplete metadata" in str(error), case["case"], error)
                path.unlink()
            continue
        labels.append(case["case"])
        files.append(bytes.fromhex(made_of["hex"]) + b" " * made_of["spaces"] if made_of
            else (work / "suite" / case["file"]).read_bytes())
    seen, differences = compare(labels, files, work)
    print(f"suite: {len(suite)} cases;", ", ".join(f"{count} {what}"
        for what, count in seen.items()))
    for need, names in differences.items():
        print(f"    {need} ({documented[need]}):", ", ".join(names))
        expected = {case["case"] for case in suite if case["default"] != "accept"
            and case["reference"] == "accept"}
        interop.check(set(names) <= expected, "the suite expects other differences")

    small = [each for each in files if len(each) < 4096]
    total, kinds_of_difference, count = collections.Counter(), collections.Counter(), 0
    batch = []

    def judge_batch():
        seen, differences = compare([f"header {count + i} of seed {seed}"
            for i in range(len(batch))], batch, work)
        total.update(seen)
        kinds_of_difference.update({need: len(names) for need, names in differences.items()})

    for contents in made_headers(small):
        batch.append(contents)
        if len(batch) == 5000:
            judge_batch()
            count += len(batch)
            batch.clear()
    judge_batch()
    print(f"made with seed {seed}: {mutations} headers;",
        ", ".join(f"{count} {what}" for what, count in total.items()))
    for need, times in kinds_of_difference.items():
        print(f"    {need} ({documented[need]}): {times}")
    interop.check(mutations < 20000 or total["accepted by both"] > mutations // 10,
        "too few headers were accepted to compare tables")
