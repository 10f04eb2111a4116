// How fast does fusing into memory go, against the limit of copying the same bytes? Reports; it judges nothing.
// Figures of one run belong together: the contenders take turns, and medians are printed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <safefuse/fuse.hpp>
#include <safefuse/layouts/families.hpp>
#include <safefuse/scopes.hpp>

namespace sf = safefuse;

namespace {

double seconds_of(auto&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t experts = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 64, inner = 768, hidden = 2048;
    const int rounds = 9;
    const std::size_t matrix_bytes = inner * hidden * 2;
    const std::size_t total = experts * 3 * matrix_bytes;
    // as in a file: the data begins 8 bytes behind a page's start, experts lie one behind the other
    std::vector<std::byte> source(total + 4096 + 8), destination(total + 4096);
    std::byte* const first = source.data() + (4096 - reinterpret_cast<std::uintptr_t>(source.data()) % 4096) + 8;
    for (std::size_t i = 0; i < total; i += 8) std::memcpy(first + i, &i, 8);

    const std::uint64_t wide[] = {inner, hidden}, tall[] = {hidden, inner};
    std::vector<std::string> names;
    std::vector<sf::named_tensor> tensors;
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"down_proj", "gate_proj", "up_proj"}) names.push_back("mlp.experts." + std::to_string(e) + "." + part + ".weight");
    for (std::size_t i = 0; i < names.size(); ++i) {
        const sf::shape_view shape = i % 3 == 0 ? sf::shape_view{tall} : sf::shape_view{wide};
        tensors.push_back({names[i], *sf::tensor_view::of(sf::dtype::bf16, shape, {first + i * matrix_bytes, matrix_bytes})});
    }
    const sf::tensor_list set{tensors};
    const auto plan = sf::plan<sf::layouts::qwen2_moe>(set, "mlp.experts");
    if (!plan) return std::fprintf(stderr, "%s\n", plan.error().message().c_str()), 1;
    std::vector<std::span<std::byte>> buffers;
    std::size_t used = 0;
    for (const sf::plan_output& output : plan->outputs()) {
        buffers.emplace_back(destination.data() + used, output.size_bytes);
        used += output.size_bytes;
    }

    std::vector<double> copy, fuse, planning;
    for (int round = 0; round < rounds; ++round) {
        copy.push_back(seconds_of([&] { std::memcpy(destination.data(), first, total); }));
        fuse.push_back(seconds_of([&] {
            if (auto done = sf::fuse(*plan, buffers); !done) std::fprintf(stderr, "%s\n", done.error().message().c_str());
        }));
        planning.push_back(seconds_of([&] { static_cast<void>(sf::plan<sf::layouts::qwen2_moe>(set, "mlp.experts").has_value()); }));
    }
    const double bytes = static_cast<double>(total);
    std::printf("%llu experts, %.2f GB, median of %d rounds\n", static_cast<unsigned long long>(experts), bytes / 1e9, rounds);
    std::printf("memcpy of the same bytes  %6.2f GB/s\n", bytes / 1e9 / median(copy));
    std::printf("fuse, reused buffer       %6.2f GB/s, %.2f of memcpy\n", bytes / 1e9 / median(fuse), median(copy) / median(fuse));
    std::printf("plan                      %6.0f us, %.0f ns per tensor\n", median(planning) * 1e6, median(planning) * 1e9 / static_cast<double>(names.size()));
    return 0;
}
