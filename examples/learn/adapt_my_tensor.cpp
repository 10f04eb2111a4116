// How do I fuse into, and out of, the tensor type of my own framework?
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

// A framework's tensor: here, 32-bit floats with their extents.
struct my_tensor {
    std::vector<std::uint64_t> extents;
    std::vector<float> values;
};

// This is all that safefuse needs to know of it.
template <>
struct safefuse::tensor_traits<my_tensor> {
    static std::span<std::byte> bytes(my_tensor& tensor) {
        return std::as_writable_bytes(std::span{tensor.values});
    }
    static sf::dtype type(const my_tensor&) { return sf::dtype::f32; }
    static const std::vector<std::uint64_t>& shape(const my_tensor& tensor) {
        return tensor.extents;
    }
};

int main(int argc, char** argv) {
    if (argc > 1) {
        std::printf(
            "usage: adapt_my_tensor\nFuses experts that are already in memory into a tensor of another type. Takes no arguments.\n");
        return std::strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // Two experts, as a framework may hold them: I = 3, H = 2.
    std::vector<std::string> names;
    std::vector<my_tensor> tensors;
    for (int expert = 0; expert < 2; ++expert)
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            names.push_back("layers.0.mlp.experts." + std::to_string(expert) + "." + part +
                            ".weight");
            const float first = static_cast<float>(100 * expert + (part == "gate_proj" ? 0
                                                                   : part == "up_proj" ? 10
                                                                                       : 20));
            tensors.push_back({part == "down_proj" ? std::vector<std::uint64_t>{2, 3}
                                                   : std::vector<std::uint64_t>{3, 2},
                               {first, first + 1, first + 2, first + 3, first + 4, first + 5}});
        }

    // They are a tensor set like any other: names and views.
    std::vector<sf::named_tensor> named;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const auto view = sf::view_of(tensors[i], tensors[i].extents);
        if (!view) return report(view.error());
        named.push_back({names[i], *view});
    }
    const sf::tensor_list set{named};
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "layers.0.mlp.experts");
    if (!plan) return report(plan.error());

    // The destination has the output's shape; fuse checks dtype and shape through tensor_traits.
    const auto output = plan->output("gate_up_proj");
    if (!output) return report(output.error());
    const sf::shape_view shape = output->shape;
    my_tensor gate_up{{shape.begin(), shape.end()},
                      std::vector<float>(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]))};
    if (auto done = sf::fuse(*plan, "gate_up_proj", gate_up); !done) return report(done.error());
    for (std::size_t row = 0; row < gate_up.values.size(); row += 2)
        std::printf("expert %zu  %s row %zu: %g %g\n", row / 12, row % 12 < 6 ? "gate" : "up  ",
                    row % 6 / 2, static_cast<double>(gate_up.values[row]),
                    static_cast<double>(gate_up.values[row + 1]));
    return 0;
}
