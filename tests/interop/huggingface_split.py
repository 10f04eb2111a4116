"""Tensors go to the shards that huggingface_hub would put them in."""

import random

from support import interop

(hub,) = interop.require("huggingface_hub.serialization._base")

generator = random.Random(1)
for round in range(400):
    most = generator.choice([0, 1, 7, 100, generator.randrange(1000)])
    sizes = []
    for _ in range(generator.randrange(1, 60)):
        sizes.append(
            generator.choice([0, most, most + 1, generator.randrange(most + 1),
                generator.randrange(most + 50)]))
    theirs = hub.split_state_dict_into_shards_factory(
        {str(i): size for i, size in enumerate(sizes)},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=most,
    )
    ours = interop.run("copy_tensor_file", "--split", most,
        standard_input="\n".join(map(str, sizes))).split()
    expected = [theirs.tensor_to_filename[str(i)] for i in range(len(sizes))]
    interop.check(ours == expected, f"sizes {sizes} at most {most}: {ours} instead of {expected}")
print("400 random lists of sizes are split alike")
