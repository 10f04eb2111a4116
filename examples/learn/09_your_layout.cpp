// How do I fuse into a layout that safefuse does not ship?
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;
using sf::layouts::down, sf::layouts::gate, sf::layouts::up;

// An engine wants rows of up and gate in turn, and down transposed. A layout is a type that says
// so. concat<0, gate, gate> would not compile: "a layout places a part twice".
using my_engine =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"w13", sf::stack<sf::interleave<0, 1, up, gate>>>,  // [E, 2I, H]
               sf::tensor<"w2", sf::stack<sf::transpose<0, 1, down>>>>;       // [E, I, H]

int main(int argc, char** argv) {
    if (argc > 1) {
        std::printf("usage: 09_your_layout\nFuses two small experts into a layout of its own.\n");
        return std::strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // Two experts, I = 2, H = 3. Bytes of gate are 0x, up 1x, down 2x; the second expert's 8x to
    // ax.
    const char* const names[] = {"experts.0.gate_proj.weight", "experts.0.up_proj.weight",
                                 "experts.0.down_proj.weight", "experts.1.gate_proj.weight",
                                 "experts.1.up_proj.weight",   "experts.1.down_proj.weight"};
    const std::uint64_t wide[] = {2, 3}, tall[] = {3, 2};
    unsigned char bytes[6][6];
    std::vector<sf::named_tensor> tensors;
    for (unsigned t = 0; t < 6; ++t) {
        const unsigned mark = t / 3 * 0x80 + t % 3 * 0x10;
        for (unsigned i = 0; i < 6; ++i) bytes[t][i] = static_cast<unsigned char>(mark + i);
        const auto data = std::as_bytes(std::span{bytes[t]});
        const auto view = sf::tensor_view::of(sf::dtype::u8, t % 3 == 2 ? tall : wide, data);
        if (!view) return report(view.error());
        tensors.push_back({names[t], *view});
    }
    // From the hub's form to ours in one pass. With the types swapped it is the way back.
    const sf::tensor_list set{tensors};
    const sf::plan_options no_scales{.allow_missing_scales = true};  // U8 could be codes
    const auto plan = sf::plan<sf::layouts::per_expert, my_engine>(set, "experts", no_scales);
    if (!plan) return report(plan.error());
    for (const sf::plan_output& output : plan->outputs()) {
        std::vector<std::byte> out(static_cast<std::size_t>(output.size_bytes));
        if (auto done = sf::fuse(*plan, output.local_name, out); !done) return report(done.error());
        std::printf("%s:", sf::text{output.local_name}.c_str());
        for (const std::byte each : out) std::printf(" %02x", std::to_integer<unsigned>(each));
        std::printf("\n");
    }
    return 0;
}
