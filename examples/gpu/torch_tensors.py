"""torch_tensors.py LIBRARY CHECKPOINT [--compare] [--device D]

Loads a model's tensors onto a GPU with torch_tensors.cpp; torch uses them there without a copy.
--compare compares every tensor with that of transformers' own from_pretrained.
"""
import ctypes
import sys
import time

import torch


def load(library_path, checkpoint, device=0, readers=8):
    """Returns a dict of torch tensors by name."""
    library = ctypes.CDLL(library_path)
    library.load_model.restype = library.lend_tensor.restype = ctypes.c_void_p
    library.last_message.restype = library.tensor_name.restype = ctypes.c_char_p
    library.tensor_count.restype = ctypes.c_size_t
    library.load_model.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t]
    for name in ("tensor_name", "lend_tensor"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    for name in ("tensor_count", "free_model"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    model = library.load_model(checkpoint.encode(), device, readers)
    if not model:
        raise RuntimeError(library.last_message().decode())
    tensors = {}
    for i in range(library.tensor_count(model)):
        managed = library.lend_tensor(model, i)
        if not managed:
            raise RuntimeError(library.last_message().decode())
        # torch takes what the capsule holds; the name is a constant of the library's, for capsules
        # do not copy theirs
        tensors[library.tensor_name(model, i).decode()] = torch.utils.dlpack.from_dlpack(
            new_capsule(managed, CAPSULE_NAME, None))
    library.free_model(model)  # the tensors share the memory
    return tensors


CAPSULE_NAME = ctypes.c_char_p(b"dltensor_versioned")


def main():
    arguments = [each for each in sys.argv[1:] if not each.startswith("--")]
    device = int(sys.argv[sys.argv.index("--device") + 1]) if "--device" in sys.argv else 0
    torch.zeros(1, device=f"cuda:{device}")
    start = time.perf_counter()
    tensors = load(arguments[0], arguments[1], device)
    seconds = time.perf_counter() - start
    size = sum(each.numel() * each.element_size() for each in tensors.values())
    print(f"{len(tensors)} tensors on {next(iter(tensors.values())).device}, {size / 1e9:.2f} GB "
          f"in {seconds:.3f} s")
    if "--compare" in sys.argv:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(arguments[1], device_map={"": device},
            dtype=torch.bfloat16)
        expected = model.state_dict()
        equal = 0
        for name, tensor in tensors.items():
            if name not in expected:
                sys.exit(f"transformers has no tensor {name}")
            other = expected[name]
            if tensor.dtype != other.dtype or tensor.shape != other.shape or not torch.equal(tensor,
                other):
                sys.exit(
                    f"{name} differs: {tensor.dtype} {tuple(tensor.shape)}, {other.dtype} "
                    f"{tuple(other.shape)}")
            equal += 1
        print(f"{equal} tensors are what transformers loaded")
    names = list(tensors)
    kept = tensors.pop(names[0])
    del tensors
    print(f"the last one keeps the memory: "
          f"{kept.float().sum().item() == kept.float().sum().item()}")


if __name__ == "__main__":
    main()
