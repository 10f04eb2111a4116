// One tensor file as what a plan takes its tensors from.
#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/run/fuse.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::temporary_directory;

namespace {

constexpr std::string_view scope = "model.layers.0.mlp.experts";

std::vector<support::tensor> experts() {
    std::vector<support::tensor> tensors;
    for (int e = 0; e < 3; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            tensors.push_back(support::bf16(
                std::string{scope} + '.' + std::to_string(e) + '.' + part + ".weight",
                std::string_view{part} == "down_proj" ? std::vector<std::uint64_t>{6, 4}
                                                      : std::vector<std::uint64_t>{4, 6}));
    return tensors;
}

std::string fused(const sf::copy_plan& plan) {
    std::string all;
    for (const sf::plan_output& output : plan.outputs()) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(output.size_bytes));
        REQUIRE(sf::fuse(plan, output.local_name, bytes));
        all += std::string{output.local_name} + support::string_of(bytes);
    }
    return all;
}

/// What a plan of a file fuses, after the file was moved.
template <class File>
std::string fused_from(sf::result<File> opened) {
    REQUIRE(opened);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*opened, scope);
    REQUIRE(plan);
    const File moved = *std::move(opened);
    return fused(*plan);
}

}  // namespace

TEST_CASE(
    "tensor file: a plan accepts it like a checkpoint, with every source, also after a move") {
    const temporary_directory directory;
    const std::string path = directory / "model.safetensors";
    support::write_tensor_file(path, experts());
    const std::string bytes = support::read_file(path);
    const auto checkpoint = sf::checkpoint::open(path);
    REQUIRE(checkpoint);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*checkpoint, scope);
    REQUIRE(plan);
    const std::string expected = fused(*plan);
    CHECK(expected.size() > 3 * 4 * 6 * 2 * 3);
    CHECK(fused_from(sf::tensor_file::open(path)) == expected);
    CHECK(fused_from(sf::positional_tensor_file::open(path)) == expected);
    CHECK(fused_from(sf::basic_tensor_file<sf::memory_source>::from(
              sf::memory_source{support::bytes_of(bytes)}, "memory")) == expected);
    CHECK(fused_from(sf::any_tensor_file::from(*sf::tensor_file::open(path))) == expected);
}
