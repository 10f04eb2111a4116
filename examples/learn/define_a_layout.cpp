// How do I fuse into a layout that safefuse does not ship?
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;
using sf::layouts::down, sf::layouts::gate, sf::layouts::up;

// An engine that wants up before gate, row by row in turn, and down transposed: a layout is a type
// that says so.
using my_engine =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"w13", sf::stack<sf::interleave<0, 1, up, gate>>>,  // [E, 2I, H], rows u0
                                                                              // g0 u1 g1 ...
               sf::tensor<"w2", sf::stack<sf::transpose<0, 1, down>>>>;       // [E, I, H]
// concat<0, gate, gate> would not compile: "a layout places a part twice".

int main(int argc, char** argv) {
    if (argc > 1) {
        std::printf(
            "usage: define_a_layout\nFuses two small experts into a layout of its own. Takes no arguments.\n");
        return std::strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    const auto report = [](const sf::failure& failure) {
        std::fprintf(stderr, "error: %s\n", failure.message().c_str());
        return 1;
    };

    // Two experts with I = 2, H = 3; every byte says where it comes from: expert, part, row.
    std::vector<std::string> names;
    std::vector<std::vector<std::uint8_t>> bytes;
    const std::uint64_t wide[] = {2, 3}, tall[] = {3, 2};
    std::vector<sf::named_tensor> tensors;
    names.reserve(6), bytes.reserve(6);
    for (unsigned expert = 0; expert < 2; ++expert)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            const bool is_down = std::strcmp(part, "down_proj") == 0;
            const auto mark = static_cast<std::uint8_t>(expert * 0x80 + (is_down          ? 0x20
                                                                         : part[0] == 'u' ? 0x10
                                                                                          : 0));
            names.push_back("experts." + std::to_string(expert) + "." + part + ".weight");
            bytes.push_back(
                {mark, static_cast<std::uint8_t>(mark + 1), static_cast<std::uint8_t>(mark + 2),
                 static_cast<std::uint8_t>(mark + 3), static_cast<std::uint8_t>(mark + 4),
                 static_cast<std::uint8_t>(mark + 5)});
            const auto view = sf::tensor_view::of(
                sf::dtype::u8, is_down ? sf::shape_view{tall} : sf::shape_view{wide},
                std::as_bytes(std::span{bytes.back()}));
            if (!view) return report(view.error());
            tensors.push_back({names.back(), *view});
        }

    // From the hub's form to ours in one pass; back again would be the same call with the types
    // swapped.
    const sf::tensor_list set{tensors};
    const auto plan = sf::plan<sf::layouts::per_expert, my_engine>(set, "experts",
                                                                   {.allow_missing_scales = true});
    if (!plan) return report(plan.error());
    for (const sf::plan_output& output : plan->outputs()) {
        std::vector<std::byte> fused(static_cast<std::size_t>(output.size_bytes));
        if (auto done = sf::fuse(*plan, output.local_name, fused); !done)
            return report(done.error());
        std::printf("%s:", std::string{output.local_name}.c_str());
        for (const std::byte each : fused) std::printf(" %02x", std::to_integer<unsigned>(each));
        std::printf("\n");
    }
    return 0;
}
