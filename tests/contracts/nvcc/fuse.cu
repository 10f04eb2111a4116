// A .cu file that fuses a checkpoint on the processor and holds what it got against what
// transformers loaded:
//   fuse CHECKPOINT LOADED.safetensors
// It needs no GPU. The kernel is there so that the file has code for both machines; nothing starts
// it.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace sf = safefuse;

__global__ void add_one(unsigned char* bytes, unsigned long long size_bytes) {
    const unsigned long long i =
        blockIdx.x * static_cast<unsigned long long>(blockDim.x) + threadIdx.x;
    if (i < size_bytes) ++bytes[i];
}

namespace {

int report(const sf::failure& failure) {
    std::fprintf(stderr, "%s\n", failure.message().c_str());
    return 1;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) return std::fputs("usage: fuse CHECKPOINT LOADED.safetensors\n", stderr), 2;
    const auto checkpoint = sf::checkpoint::open(arguments[1]);
    if (!checkpoint) return report(checkpoint.error());
    const auto loaded = sf::tensor_file::open(arguments[2]);
    if (!loaded) return report(loaded.error());
    const std::string scope = "model.layers.1.mlp.experts";
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, scope);
    if (!plan) return report(plan.error());
    std::size_t equal = 0;
    for (const sf::plan_output& output : plan->outputs()) {
        std::vector<std::byte> fused(static_cast<std::size_t>(output.size_bytes));
        sf::result<void> done;
        done = sf::fuse(*plan, output.local_name,
                        fused);  // assigned, as nvcc warns about where a class is [[nodiscard]]
        if (!done) return report(done.error());
        const auto expected = loaded->find(scope + "." + std::string{output.local_name});
        if (!expected) return report(expected.error());
        if (expected->size_bytes() != fused.size() ||
            std::memcmp(expected->bytes().data(), fused.data(), fused.size()) != 0)
            return std::fputs(
                       "the fused bytes differ from those that transformers "
                       "loaded\n",
                       stderr),
                   1;
        ++equal;
    }
    std::printf("%zu outputs are what transformers loaded\n", equal);
    return equal > 0 ? 0 : 1;
}
