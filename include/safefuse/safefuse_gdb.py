# safefuse: how gdb shows texts, failures, results and tensor views. In gdb, or in ~/.gdbinit:
#   source …/include/safefuse/safefuse_gdb.py
import re

import gdb

NO_NUMBER = 2**64 - 1
NUMBERS = ("expert", "offset", "expected", "actual")


def characters(text):
    block = text["block_"]
    if int(block) == 0:
        return ""
    characters = (block + 1).cast(gdb.lookup_type("char").pointer())
    return characters.string("utf-8", "replace", int(block["size"]))


def span(value):
    """First element and count."""
    return value["first_"], int(value["count_"])


def last_word(enumerator):
    return str(enumerator).rpartition("::")[2]


class Printer:
    def __init__(self, value):
        self.value = value


class Text(Printer):
    def to_string(self):
        return characters(self.value)

    def display_hint(self):
        return "string"


class Failure(Printer):
    def to_string(self):
        known = [last_word(self.value["code"])]
        for name in ("file", "tensor", "scope", "detail"):
            if said := characters(self.value[name]):
                known.append(f'{name} "{said}"')
        known += [f"{name} {int(self.value[name])}" for name in NUMBERS
            if int(self.value[name]) != NO_NUMBER]
        if os_error := int(self.value["os_error"]):
            known.append(f"os_error {os_error}")
        return ", ".join(known)


class Result(Printer):
    def to_string(self):
        return "success" if self.value["has_value_"] else "failure"

    def children(self):
        held = "value_" if self.value["has_value_"] else "error_"
        value_type = self.value.type.strip_typedefs().template_argument(0)
        if held == "error_" or value_type.code != gdb.TYPE_CODE_VOID:
            yield held, self.value[held]


class TensorView(Printer):
    def to_string(self):
        extents, rank = span(self.value["shape_"])
        data, size_bytes = span(self.value["bytes_"])
        shape = ", ".join(str(int(extents[axis])) for axis in range(min(rank, 16)))
        return f"{last_word(self.value['type_'])} [{shape}], {size_bytes} bytes at {int(data):#x}"


def find(value):
    name = value.type.strip_typedefs().unqualified().tag or ""
    kind = re.match(r"safefuse::v[0-9_]+::(text|failure|tensor_view|result)(<|$)", name)
    printers = {"text": Text, "failure": Failure, "tensor_view": TensorView, "result": Result}
    return printers[kind[1]](value) if kind else None


gdb.pretty_printers.append(find)
