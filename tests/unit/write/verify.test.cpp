// What a rewrite is held against: everything that is in the input, listed or not.
#include <safefuse/write/verify.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/write/rewrite.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
namespace fs = std::filesystem;
using support::temporary_directory;

namespace {

/// The experts of one layer and a norm, in a shard whose index lacks the norm.
void write_source(const std::string& directory) {
    fs::create_directories(directory);
    std::vector<support::tensor> tensors{support::bf16("model.norm.weight", {4})};
    std::string listed;
    for (const char* expert : {"0", "1"})
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            tensors.push_back(support::bf16(
                std::string{"model.layers.0.mlp.experts."} + expert + "." + part + ".weight",
                part == "down_proj" ? std::vector<std::uint64_t>{4, 2}
                                    : std::vector<std::uint64_t>{2, 4}));
            listed += (listed.empty() ? "" : ", ") + ("\"" + tensors.back().name) +
                      "\": \"a.safetensors\"";
        }
    support::write_tensor_file(directory + "/a.safetensors", tensors);
    support::write_file(directory + "/model.safetensors.index.json",
                        "{\"weight_map\": {" + listed + "}}");
}

}  // namespace

TEST_CASE("verify: an unlisted tensor is written, and reported if it is missing") {
    const temporary_directory directory;
    const std::string in = directory / "in", out = directory / "out", less = directory / "less";
    write_source(in);
    const auto source = sf::checkpoint::open(in);
    REQUIRE(source);
    CHECK(source->unlisted_count() == 1);
    const auto plan = sf::rewrite_plan::make(*source, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(plan);
    REQUIRE(sf::rewrite(*plan, out));
    const auto fused = sf::checkpoint::open(out);
    REQUIRE(fused);
    CHECK(fused->find("model.norm.weight").has_value());
    CHECK(sf::verify_rewritten(*plan, *fused));

    // made by whoever takes the index for all there is
    const auto listed = sf::checkpoint::open(in, {.show_unlisted = false});
    const auto part = sf::rewrite_plan::make(*listed, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(part);
    REQUIRE(sf::rewrite(*part, less));
    const auto lacking = sf::checkpoint::open(less);
    REQUIRE(lacking);
    const auto lost = sf::verify_rewritten(*plan, *lacking);
    REQUIRE_FALSE(lost);
    CHECK(lost.error().code == sf::errc::tensor_not_found);
    CHECK(lost.error().tensor == "model.norm.weight");
}

TEST_CASE("verify: a different dtype or shape is reported with both values") {
    const temporary_directory directory;
    write_source(directory / "in");
    const auto source = sf::checkpoint::open(directory / "in");
    const auto plan = sf::rewrite_plan::make(*source, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(plan);
    const auto told = [&](const support::tensor& norm) {
        const std::string to = directory / (norm.type + std::to_string(norm.shape[0]));
        fs::create_directories(to);
        support::write_tensor_file(
            to + "/model.safetensors",
            {norm, support::bf16("model.layers.0.mlp.experts.gate_up_proj", {2, 4, 4}),
             support::bf16("model.layers.0.mlp.experts.down_proj", {2, 4, 2})});
        const auto other = sf::checkpoint::open(to);
        const auto differs = sf::verify_rewritten(*plan, *other);
        REQUIRE_FALSE(differs);
        return std::string{differs.error().message().view()};
    };
    support::tensor half = support::bf16("model.norm.weight", {4});
    half.type = "F16";
    CHECK(told(half).find("expected BF16 [4], found F16 [4]") != std::string::npos);
    CHECK(told(support::bf16("model.norm.weight", {5})).find("expected BF16 [4], found BF16 [5]") !=
          std::string::npos);
}
