// How fast are casts and dequantising, compared with the limit of writing the same bytes? Reports
// only.
//
//     benchmark_convert [EXPERTS] [options of measure.hpp]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/convert.hpp>
#include <safefuse/run/dequantize.hpp>

#include "measure.hpp"

namespace sf = safefuse;
using sf::dtype;

namespace {

struct contender {
    std::string name;
    std::size_t written_bytes;
    std::function<void()> run;
};

void check(const sf::result<void>& done) {
    if (!done) std::fprintf(stderr, "%s\n", done.error().message().c_str());
}

}  // namespace

int main(int argc, char** argv) {
    measure::program program{"convert", argc, argv, 11};
    const std::uint64_t experts = program.number(0, program.is_small() ? 4 : 32), inner = 768,
                        hidden = 2048;
    const std::size_t count = experts * 2 * inner * hidden;  // gate and up of one layer
    // as in a file: the data begins 8 bytes after a page boundary
    std::vector<std::byte> source(count * 8 + 4096 + 8), destination(count * 8 + 4096);
    std::byte* const first =
        source.data() + (4096 - reinterpret_cast<std::uintptr_t>(source.data()) % 4096) + 8;
    std::byte* const to =
        destination.data() + (64 - reinterpret_cast<std::uintptr_t>(destination.data()) % 64);
    for (std::size_t i = 0; i < count * 8; i += 8) {
        const std::uint64_t value =
            0x3F91'3E82'BD77'3C55u ^ (i * 0x0000'1F35'0007'0043u & 0x00FF'00FF'00FF'00FFu);
        std::memcpy(first + i, &value, 8);
    }
    std::vector<float> scales(count / 128 / 128 + 1, 0.0123f);
    std::vector<std::byte> powers(count / 32, std::byte{120});
    const std::uint64_t shape[] = {experts * 2 * inner, hidden},
                        grid[] = {experts * 2 * inner / 128, hidden / 128};
    const std::uint64_t packed[] = {experts * 2 * inner, hidden / 32, 16},
                        groups[] = {experts * 2 * inner, hidden / 32};

    // the same as single experts, for casts while fusing
    const std::uint64_t wide[] = {inner, hidden}, tall[] = {hidden, inner};
    const std::size_t matrix_bytes = inner * hidden * 2;
    std::vector<std::string> names;
    std::vector<sf::named_tensor> tensors;
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            names.push_back("mlp.experts." + std::to_string(e) + "." + part + ".weight");
    for (std::size_t i = 0; i < names.size(); ++i)
        tensors.push_back(
            {names[i], *sf::tensor_view::of(
                           dtype::bf16, i % 3 == 2 ? sf::shape_view{tall} : sf::shape_view{wide},
                           {first + i * matrix_bytes, matrix_bytes})});
    const sf::tensor_list set{tensors};
    const auto plan = sf::plan<sf::families::qwen2_moe>(set, "mlp.experts");
    if (!plan) return std::fprintf(stderr, "%s\n", plan.error().message().c_str()), 1;

    std::vector<contender> contenders;
    for (const dtype from : {dtype::bf16, dtype::f16, dtype::f32, dtype::f64})
        for (const dtype made : {dtype::f32, dtype::bf16, dtype::f16, dtype::f64}) {
            if (from == made) continue;
            const std::size_t in = count * sf::bits(from) / 8, out = count * sf::bits(made) / 8;
            contenders.push_back(
                {std::string{sf::name(from)} + " to " + std::string{sf::name(made)}, out,
                 [=] { check(sf::convert_elements(from, {first, in}, made, {to, out})); }});
        }
    contenders.push_back({"BF16 to F32, buffers of 1 MiB", count * 4, [=] {
                              const std::size_t piece = std::size_t{1} << 18;
                              for (std::size_t i = 0; i < count; i += piece) {
                                  const std::size_t size = std::min(piece, count - i);
                                  check(sf::convert_elements(dtype::bf16, {first + i * 2, size * 2},
                                                             dtype::f32, {to, size * 4}));
                              }
                          }});
    contenders.push_back(
        {"fuse BF16 as F32", count * 4,
         [&, to] { check(sf::fuse_as(*plan, "gate_up_proj", dtype::f32, {to, count * 4})); }});
    const auto codes = *sf::tensor_view::of(dtype::f8_e4m3, shape, {first, count});
    const auto factors = *sf::tensor_view::of(
        dtype::f32, grid, std::as_bytes(std::span{scales}).first(grid[0] * grid[1] * 4));
    contenders.push_back(
        {"F8_E4M3 in blocks of 128 x 128 to BF16", count * 2,
         [=] { check(sf::dequantize_blocks(codes, factors, {}, dtype::bf16, {to, count * 2})); }});
    const auto blocks = *sf::tensor_view::of(dtype::u8, packed, {first, count / 2});
    const auto exponents = *sf::tensor_view::of(dtype::u8, groups, powers);
    contenders.push_back(
        {"MXFP4 to BF16", count * 2,
         [=] { check(sf::dequantize_mxfp4(blocks, exponents, dtype::bf16, {to, count * 2})); }});

    std::printf("%.0f million elements, one thread; a rate is of bytes written\n",
                static_cast<double>(count) / 1e6);
    for (const contender& each : contenders) {
        measure::race race{program, each.name};
        race.add("memset",
                 [&, value = 0]() mutable { std::memset(to, ++value, each.written_bytes); });
        race.add("safefuse", each.run);
        race.run().report(measure::gigabytes_per_second(static_cast<double>(each.written_bytes)),
                          "memset");
    }
    return program.finish();
}
