"""Casts and dequantised codes equal PyTorch's and transformers', bit for bit."""

import pathlib
import tempfile

from support import interop

torch, numpy = interop.require("torch", "numpy")

# Our names, theirs, the integers with their bits, and the bits of the mantissa.
floats = {
    "F64": (torch.float64, numpy.uint64, 52),
    "F32": (torch.float32, numpy.uint32, 23),
    "F16": (torch.float16, numpy.uint16, 10),
    "BF16": (torch.bfloat16, numpy.uint16, 7),
}
signed = {numpy.uint64: (torch.int64, numpy.int64), numpy.uint32: (torch.int32, numpy.int32),
    numpy.uint16: (torch.int16, numpy.int16)}
# Which NaN comes out is one thing in PyTorch's vector code and another elsewhere; ours is the
# former. In these pairs the vector code leaves elements at the end of a tensor, or of a thread's
# part of it, to the other.
has_vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
other_nans = {("F64", "BF16"): 0x7FC0, ("F16", "F32"): 0x7FFFFFFF}

generator = numpy.random.default_rng(1)
compared = {}


def bits_of(tensor):
    """The bits of a tensor's elements as numpy's unsigned integers."""
    integers = next(u for t, u, _ in floats.values() if t == tensor.dtype)
    return tensor.contiguous().view(signed[integers][0]).numpy().view(integers).reshape(-1)


def tensor_of(name, bits):
    dtype, integers, _ = floats[name]
    return torch.from_numpy(bits.astype(integers).view(signed[integers][1])).view(dtype)


def is_nan(name, bits):
    _, integers, mantissa = floats[name]
    sign = integers(1 << (numpy.dtype(integers).itemsize * 8 - 1))
    infinity = sign - integers(1 << mantissa)
    return (bits & ~sign) > infinity


def alike(what, name, ours, theirs, source=None, any_nan=None):
    interop.check(len(ours) == len(theirs), what, "have another size")
    nans = is_nan(name, theirs)
    differs = ours != theirs
    if not has_vectors:
        differs &= ~(nans & is_nan(name, ours))
    elif any_nan is not None:
        differs &= ~(any_nan & nans & is_nan(name, ours))
    elif what in other_nans:
        differs &= ~(nans & is_nan(name, ours) & (theirs == other_nans[what]))
    if differs.any():
        i = int(numpy.argmax(differs))
        interop.check(False, what, f"{int(differs.sum())} of {len(ours)} differ, first", i,
            hex(ours[i]), "and not", hex(theirs[i]),
                      "from", hex(source[i]) if source is not None else "")  # fmt: skip
    compared[what] = compared.get(what, 0) + len(ours)


def borders(wide, narrow):
    """Elements of a wide type at each number of a narrow one, halfway to the next, and beside
    these."""
    _, integers, _ = floats[wide]
    end = 0x7C00 if narrow == "F16" else 0x7F80
    numbers = tensor_of(narrow, numpy.arange(end)).to(torch.float64)
    middles = (numbers[1:] + numbers[:-1]) / 2
    top = numbers[-1] + (numbers[-1] - numbers[-2]) / 2
    exact = bits_of(torch.cat([numbers, middles, top.reshape(1)]).to(floats[wide][0]))
    near = numpy.concatenate([exact, exact + integers(1),
        numpy.where(exact > 0, exact - integers(1), exact)])
    sign = integers(1 << (numpy.dtype(integers).itemsize * 8 - 1))
    return numpy.concatenate([near, near | sign])


def samples(name):
    _, integers, mantissa = floats[name]
    width = numpy.dtype(integers).itemsize * 8
    if width == 16:
        return numpy.arange(1 << 16, dtype=integers)
    sign, infinity = integers(1 << (width - 1)), integers((1 << (width - 1)) - (1 << mantissa))
    random = generator.integers(0, numpy.iinfo(integers).max, 4_000_000, dtype=integers,
        endpoint=True)
    some = random[:300_000]
    parts = [random, some & ~infinity, some | infinity]  # all, subnormals, NaNs
    # exponents that F16 and BF16 have, too
    dtype = floats[name][0]
    parts.append(
        bits_of((torch.randn(2_000_000, dtype=torch.float64,
            generator=torch.Generator().manual_seed(1)) * 2.0 ** torch.randint(-30, 18,
            (2_000_000,))).to(dtype)))
    parts += [borders(name, "F16"), borders(name, "BF16")]
    if name == "F64":
        # near an F32, and halfway between two, where rounding twice shows
        single = bits_of(tensor_of("F32", random[:1_000_000] >> numpy.uint64(32)).to(torch.float64))
        half = numpy.uint64(1 << 28)
        parts += [single, single + numpy.uint64(1), single - numpy.uint64(1), single + half, single
            + half - numpy.uint64(1), single + half + numpy.uint64(1)]
        close = borders("F32", "F16")
        parts += [bits_of(tensor_of("F32", each).to(torch.float64)) + numpy.uint64(1)
            for each in (close, borders("F32", "BF16"))]
    # infinities, the NaNs next to them, quiet and signalling, and the last of them
    quiet = integers(1 << (mantissa - 1))
    ends = [each | s for s in (integers(0), sign)
        for each in (integers(0), infinity, infinity | integers(1), infinity | quiet, infinity
            | quiet - integers(1), sign - integers(1))]
    return numpy.concatenate([numpy.repeat(numpy.array(ends, dtype=integers), 1000), *parts])


class workplace:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def file(self, name, array):
        array.tofile(self.path / name)
        return self.path / name

    def made(self, to, *arguments):
        out = self.path / "out"
        interop.run("convert_elements", *arguments, out)
        return numpy.fromfile(out, dtype=floats[to][1])


def compare_casts(work):
    for source in floats:
        elements = samples(source)
        given = work.file("in", elements)
        tensor = tensor_of(source, elements)
        for to in floats:
            if to != source:
                alike((source, to), to, work.made(to, "cast", source, to, given),
                    bits_of(tensor.to(floats[to][0])), elements)


code_types = {
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "int8",
}  # fmt: skip


def random_scales(name, shape):
    count = int(numpy.prod(shape))
    if name in ("F8_E8M0", "U8"):
        codes = torch.from_numpy(generator.integers(0, 256, count, dtype=numpy.uint8)).reshape(
            shape)
        codes.reshape(-1)[: min(count, 256)] = torch.arange(256,
            dtype=torch.uint8)[: min(count, 256)]
        return codes if name == "U8" else codes.view(torch.float8_e8m0fnu)
    dtype, integers, mantissa = floats[name]
    # odd factors of every size: half of them such as checkpoints have, half any bits at all
    usual = bits_of((torch.rand(count, generator=torch.Generator().manual_seed(count)) * 2e-3
        + 1e-6).to(dtype))
    any_bits = generator.integers(0, numpy.iinfo(integers).max, count, dtype=integers,
        endpoint=True)
    return tensor_of(name, numpy.where(numpy.arange(count) % 2 == 0, usual,
        any_bits)).reshape(shape)


def bytes_of(tensor):
    return tensor.contiguous().view(torch.uint8).numpy()


def spread(factors, shape):
    """Scales as a tensor of the shape of their codes."""
    return factors.repeat_interleave(shape[-2] // factors.shape[-2],
        -2).repeat_interleave(shape[-1] // factors.shape[-1], -1)


def nan_products(codes, factors):
    """Where the product is one of two NaNs."""
    scales = factors.to(torch.float32)
    return (codes.to(torch.float32).isnan() & spread(scales, codes.shape).isnan()).numpy().reshape(
        -1)


def compare_blocks(work, dequantize):
    cases = []
    for codes in code_types:
        for scales in ("F32", "BF16", "F16", "F8_E8M0", "U8"):
            cases.append((codes, (256, 256), scales, (1, 256)))  # each code with 256 scales
        cases += [(codes, (512, 768), "F32", (128, 128)), (codes, (3, 256, 384), "F32", (128, 128)),
            (codes, (2, 6, 20), "F32", (3, 10)),
                  # fmt: skip
                  (codes, (5, 64, 96), "U8", (1, 32)), (codes, (2, 128, 256), "F8_E8M0", (32, 32))]
    for codes, shape, scales, (rows, columns) in cases:
        width = shape[-1] // 2 if codes == "F4" else shape[-1]
        count = int(numpy.prod(shape[:-1])) * width
        stored = torch.from_numpy((numpy.arange(count) * (1 if shape == (256, 256) else 167)
            % 256).astype(numpy.uint8)).reshape(*shape[:-1], width)
        quantized = stored.view(getattr(torch, code_types[codes]))
        scale_shape = (*shape[:-2], shape[-2] // rows, shape[-1] // columns)
        factors = random_scales(scales, scale_shape)
        arguments = (codes, ",".join(map(str, shape)), scales, ",".join(map(str, scale_shape)),
            rows, columns)
        files = (work.file("codes", bytes_of(stored)), work.file("scales", bytes_of(factors)))
        # a product of two NaNs may be either
        two = nan_products(quantized, factors) if codes != "F4" else None
        for to in floats:
            alike((codes, scales, to), to, work.made(to, "blocks", *arguments, to, *files),
                bits_of(dequantize(quantized, factors, floats[to][0])),
                  any_nan=two if to != "BF16" else None)  # fmt: skip


def compare_mxfp4(work, convert):
    blocks = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 256, 16,
        16).contiguous()
    scales = torch.arange(256, dtype=torch.uint8).reshape(1, 256, 1).expand(2, 256, 16).contiguous()
    files = (work.file("codes", bytes_of(blocks)), work.file("scales", bytes_of(scales)))
    for to in ("BF16", "F16", "F32"):
        theirs = convert(blocks, scales, dtype=floats[to][0]).transpose(1, 2)
        alike(("MXFP4", to), to, work.made(to, "mxfp4", "2,256,16,16", to, *files), bits_of(theirs))


def torch_alone(quantized, factors, dtype):
    """Does what Fp8Dequantize does, for machines without transformers."""
    numbers = quantized.to(torch.float32)
    scales = (
        factors.to(torch.float32) - 127).exp2() if factors.dtype == torch.uint8 else factors.to(
            torch.float32)
    return (numbers * spread(scales, numbers.shape)).to(dtype)


with tempfile.TemporaryDirectory() as directory:
    work = workplace(directory)
    compare_casts(work)
    try:
        from transformers.integrations.finegrained_fp8 import Fp8Dequantize
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    except ImportError as error:
        print("transformers is left out:", error)
        code_types.pop("F4")
        compare_blocks(work, torch_alone)
    else:
        step = Fp8Dequantize(None)
        compare_blocks(work, lambda quantized, factors,
            dtype: step._dequantize_one(quantized, factors, output_dtype=dtype))
        compare_mxfp4(work, convert_moe_packed_tensors)
        # and as a loader calls it: the result has the scales' type
        codes, factors = torch.arange(256, dtype=torch.uint8).repeat(256).reshape(256,
            256), random_scales("F32", (2, 2))
        theirs = step.convert({"weight": [codes.view(torch.float8_e4m3fn)],
            "weight_scale_inv": [factors]})["weight"]
        files = (work.file("codes", bytes_of(codes)), work.file("scales", bytes_of(factors)))
        ours = work.made("F32", "blocks", "F8_E4M3", "256,256", "F32", "2,2", 128, 128, "F32",
            *files)
        alike(("Fp8Dequantize", "F32"), "F32", ours, bits_of(theirs),
            any_nan=nan_products(codes.view(torch.float8_e4m3fn), factors))
casts = sum(count for what, count in compared.items()
    if what in {(a, b) for a in floats for b in floats})
print(f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}): {casts:,} casts and "
      f"{sum(compared.values()) - casts:,} scaled codes are the same")
