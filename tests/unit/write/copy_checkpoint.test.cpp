// Where a rewrite changes nothing, the files are copied as they are.
#include <safefuse/write/copy_checkpoint.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/write/rewrite.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
namespace fs = std::filesystem;
using support::read_file;
using support::temporary_directory;

namespace {

using qwen = sf::families::qwen2_moe;

/// A fused checkpoint of two shards with names of their own, and an index that no writer of ours
/// would spell so.
void write_fused(const fs::path& directory) {
    fs::create_directories(directory);
    support::write_tensor_file(directory / "b.safetensors",
                               {support::bf16("model.layers.0.mlp.experts.down_proj", {2, 4, 2}),
                                support::bf16("model.norm.weight", {4})});
    support::write_tensor_file(
        directory / "a.safetensors",
        {support::bf16("model.layers.0.mlp.experts.gate_up_proj", {2, 4, 4})});
    support::write_file(directory / "model.safetensors.index.json",
                        R"({ "weight_map" : {
   "model.norm.weight": "b.safetensors",
   "model.layers.0.mlp.experts.gate_up_proj": "a.safetensors",
   "model.layers.0.mlp.experts.down_proj": "b.safetensors" }, "made_by": "hand" })");
}

bool is_same(const fs::path& a, const fs::path& b) {
    for (const char* name : {"a.safetensors", "b.safetensors", "model.safetensors.index.json"})
        if (!fs::exists(b / name) || read_file(a / name) != read_file(b / name)) return false;
    return !fs::exists(b / sf::writer_state_file);
}

/// Stops a run after so many calls.
struct stop_after {
    int calls;
    bool operator()(const sf::run_progress&) { return --calls > 0; }
};

}  // namespace

TEST_CASE("copy: a plan knows whether it changes nothing") {
    const temporary_directory directory;
    write_fused(directory / "in");
    const auto fused = sf::checkpoint::open(directory / "in");
    REQUIRE(fused);
    const auto forward = sf::rewrite_plan::make(*fused, sf::description_of<qwen>);
    REQUIRE(forward);
    CHECK(sf::changes_nothing(*forward).value());
    const auto inverse =
        sf::rewrite_plan::make(*fused, *sf::find_family("qwen2_moe"), sf::direction::inverse);
    REQUIRE(inverse);
    CHECK_FALSE(sf::changes_nothing(*inverse).value());

    fs::create_directories(directory / "dense");
    support::write_tensor_file(directory / "dense/model.safetensors",
                               {support::u8("model.norm.weight", {4}), support::u8("z", {0})});
    const auto dense = sf::checkpoint::open(directory / "dense");
    const auto plan = sf::rewrite_plan::make(*dense, sf::description_of<qwen>);
    REQUIRE(plan);
    CHECK(sf::changes_nothing(*plan).value());

    // Mixtral's router has another name in the model
    const auto stored = [](const char* layer) {
        std::vector<support::tensor> out{
            support::bf16(std::string{layer} + ".block_sparse_moe.gate.weight", {2, 4})};
        for (const char* expert : {"0", "1"})
            for (const char* part : {"w1", "w2", "w3"})
                out.push_back(support::bf16(std::string{layer} + ".block_sparse_moe.experts." +
                                                expert + "." + part + ".weight",
                                            part[1] == '2' ? std::vector<std::uint64_t>{4, 2}
                                                           : std::vector<std::uint64_t>{2, 4}));
        return out;
    };
    fs::create_directories(directory / "mixtral");
    support::write_tensor_file(directory / "mixtral/model.safetensors", stored("model.layers.0"));
    const auto mixtral = sf::checkpoint::open(directory / "mixtral");
    const auto changed =
        sf::rewrite_plan::make(*mixtral, sf::description_of<sf::families::mixtral>);
    REQUIRE(changed);
    CHECK_FALSE(sf::changes_nothing(*changed).value());
}

TEST_CASE("copy: the files, their names and the index are those of the source, byte for byte") {
    const temporary_directory directory;
    write_fused(directory / "in");
    const auto mapped = sf::checkpoint::open(directory / "in");
    const auto read = sf::positional_checkpoint::open(directory / "in");
    const std::string mapped_out = directory / "mapped", read_out = directory / "read";
    const auto summary = sf::copy_checkpoint(*mapped, mapped_out);
    REQUIRE(summary);
    CHECK(summary->shard_count == 2);
    CHECK(summary->kept_shard_count == 0);
    CHECK(is_same(directory / "in", mapped_out));
    REQUIRE(sf::copy_checkpoint(*read, read_out, {.wait = sf::durability::renamed}));
    CHECK(is_same(directory / "in", read_out));

    const auto again = sf::copy_checkpoint(*mapped, mapped_out);
    REQUIRE_FALSE(again);
    CHECK(again.error().code == sf::errc::destination_not_empty);
    CHECK(is_same(directory / "in", mapped_out));
    const std::string own = directory / "in";
    const auto itself = sf::copy_checkpoint(*mapped, own);
    REQUIRE_FALSE(itself);
    CHECK(itself.error().code == sf::errc::destination_in_source);
}

TEST_CASE("copy: linked files are hard links to the source's files") {
    const temporary_directory directory;
    write_fused(directory / "in");
    const auto source = sf::checkpoint::open(directory / "in");
    const std::string out = directory / "out";
    const auto summary = sf::copy_checkpoint(*source, out, {.share = sf::sharing::files});
    REQUIRE(summary);
    CHECK(summary->linked_shard_count == 2);
    CHECK(is_same(directory / "in", out));
    CHECK(fs::equivalent(directory / "in/a.safetensors", fs::path{out} / "a.safetensors"));
}

TEST_CASE("copy: a stopped run is resumed, but only with the same files") {
    const temporary_directory directory;
    write_fused(directory / "in");
    const auto source = sf::checkpoint::open(directory / "in");
    const std::string out = directory / "out";
    {
        stop_after stop{1};
        const auto stopped = sf::copy_checkpoint(*source, out, {}, stop);
        REQUIRE_FALSE(stopped);
        CHECK(stopped.error().code == sf::errc::canceled);
        CHECK(fs::is_empty(out));  // there was nothing to go on with
    }
    {
        stop_after stop{2};
        REQUIRE_FALSE(sf::copy_checkpoint(*source, out, {}, stop));
        CHECK(fs::exists(fs::path{out} / sf::writer_state_file));
        CHECK_FALSE(sf::checkpoint::open(out));  // the index names what is missing
    }
    support::write_file(fs::path{out} / ".b.safetensors.0123456789abcdef.tmp", "half");
    const auto refused = sf::copy_checkpoint(*source, out);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::destination_not_empty);

    // a rewrite of the same checkpoint is another thing to write
    const auto plan = sf::rewrite_plan::make(*source, sf::description_of<qwen>);
    REQUIRE(plan);
    const auto other = sf::rewrite(*plan, out, {.resume = true});
    REQUIRE_FALSE(other);
    CHECK(other.error().code == sf::errc::another_rewrite);

    const auto resumed = sf::copy_checkpoint(*source, out, {.resume = true});
    REQUIRE(resumed);
    CHECK(resumed->kept_shard_count == 1);
    CHECK(is_same(directory / "in", out));
    CHECK_FALSE(fs::exists(fs::path{out} / ".b.safetensors.0123456789abcdef.tmp"));
}

TEST_CASE("copy: files in several directories are refused") {
    const temporary_directory directory;
    fs::create_directories(directory / "in/part");
    support::write_tensor_file(directory / "in/part/a.safetensors", {support::u8("a", {4})});
    support::write_tensor_file(directory / "in/b.safetensors", {support::u8("b", {4})});
    support::write_file(directory / "in/model.safetensors.index.json",
                        R"({"weight_map": {"a": "part/a.safetensors", "b": "b.safetensors"}})");
    const auto source = sf::checkpoint::open(directory / "in");
    REQUIRE(source);
    CHECK_FALSE(sf::is_in_one_directory(*source));
    const std::string out = directory / "out";
    const auto refused = sf::copy_checkpoint(*source, out);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == sf::errc::path_leaves_directory);
    CHECK_FALSE(fs::exists(out));
}
