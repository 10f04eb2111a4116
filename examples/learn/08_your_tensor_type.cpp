// How do I fuse into, and out of, the tensor type of my own framework?
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

// A framework's tensor: here, 32-bit floats and their extents.
struct my_tensor {
    std::vector<std::uint64_t> extents;
    std::vector<float> values;
};

template <>  // this is all that safefuse needs to know about it
struct safefuse::tensor_traits<my_tensor> {
    static auto bytes(my_tensor& t) { return std::as_writable_bytes(std::span{t.values}); }
    static sf::dtype type(const my_tensor&) { return sf::dtype::f32; }
    static const std::vector<std::uint64_t>& shape(const my_tensor& t) { return t.extents; }
};

int main(int argc, char** argv) {
    if (argc > 1) {
        std::printf("usage: 08_your_tensor_type\nFuses experts into a type of its own.\n");
        return std::strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // Two experts with I = 1 and H = 2, as a framework may have them: tensors and their names.
    std::pair<const char*, my_tensor> tensors[] = {
        {"experts.0.gate_proj.weight", {{1, 2}, {0, 1}}},
        {"experts.0.up_proj.weight", {{1, 2}, {10, 11}}},
        {"experts.0.down_proj.weight", {{2, 1}, {20, 21}}},
        {"experts.1.gate_proj.weight", {{1, 2}, {100, 101}}},
        {"experts.1.up_proj.weight", {{1, 2}, {110, 111}}},
        {"experts.1.down_proj.weight", {{2, 1}, {120, 121}}}};
    std::vector<sf::named_tensor> named;
    for (auto& [name, tensor] : tensors) {
        const auto view = sf::view_of(tensor, tensor.extents);
        if (!view) return report(view.error());
        named.push_back({name, *view});
    }
    const sf::tensor_list set{named};  // it is planned like a checkpoint
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "experts");
    if (!plan) return report(plan.error());

    // fuse() checks the type and the shape of the destination through tensor_traits.
    my_tensor gate_up{{2, 2, 2}, std::vector<float>(8)};  // [E, 2I, H]
    if (auto done = sf::fuse(*plan, "gate_up_proj", gate_up); !done) return report(done.error());
    for (const float value : gate_up.values) std::printf("%g\n", static_cast<double>(value));
    return 0;
}
