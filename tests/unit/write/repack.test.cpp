// A repacked checkpoint has the same tensors under the same names. Outputs that a plan had to copy
// together before are views afterwards.
#include <safefuse/write/repack.hpp>
#include <safefuse/write/verify.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/write/rewrite.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::string_of;
using support::temporary_directory;

static_assert(sf::repacked_alignment % sf::share_multiple_bytes == 0);

namespace {

using qwen = sf::families::qwen2_moe;

std::vector<support::tensor> layer_of(const std::string& layer, std::uint64_t experts,
                                      std::uint64_t inner, std::uint64_t hidden) {
    std::vector<support::tensor> out{support::bf16(layer + ".mlp.gate.weight", {experts, 3}),
                                     support::u8(layer + ".odd", {5})};
    out.push_back(support::u8(layer + ".mlp.gate.bias", {experts * 4}));
    out.back().type = "F32";
    out.back().shape = {experts};
    for (std::uint64_t e = 0; e < experts; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            out.push_back(
                support::bf16(layer + ".mlp.experts." + std::to_string(e) + '.' + part + ".weight",
                              std::string_view{part} == "down_proj" ? std::vector{hidden, inner}
                                                                    : std::vector{inner, hidden}));
    return out;
}

void check_same(const sf::checkpoint& repacked, const std::vector<support::tensor>& expected) {
    REQUIRE(repacked.size() == expected.size());
    for (const support::tensor& each : expected) {
        CAPTURE(each.name);
        const auto found = repacked.find(each.name);
        REQUIRE(found);
        CHECK(sf::name(found->type()) == each.type);
        CHECK(std::vector<std::uint64_t>(found->shape().begin(), found->shape().end()) ==
              each.shape);
        CHECK(string_of(found->bytes()) == each.data);
    }
}

std::string fused(const sf::copy_plan& plan, const sf::plan_output& output) {
    std::string made(static_cast<std::size_t>(output.size_bytes), '?');
    REQUIRE(sf::fuse(plan, output.local_name, std::as_writable_bytes(std::span{made})));
    return made;
}

// Its outputs do not consist of whole tensors.
struct in_turn
    : sf::family<
          "in_turn", sf::layouts::per_expert,
          sf::layout<sf::parameter_suffixes,
                     sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, 1, sf::layouts::gate,
                                                                         sf::layouts::up>>>,
                     sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>> {};

}  // namespace

TEST_CASE(
    "repack: outputs that had to be copied are views afterwards, with the same bytes, "
    "page-aligned if sizes allow it") {
    const temporary_directory directory;
    std::mt19937 random{3};
    std::vector<support::tensor> all;
    for (const char* layer : {"model.layers.2", "model.layers.10"})
        for (support::tensor& each : layer_of(layer, 11, 64, 96))
            all.push_back(std::move(each));  // 12,288 bytes each: three pages
    for (support::tensor& each : layer_of("mtp.layers.0", 3, 5, 7)) all.push_back(std::move(each));
    std::shuffle(all.begin(), all.end(), random);
    std::vector<support::shard> shards(3);
    for (std::size_t i = 0; i < 3; ++i)
        shards[i].file = "part" + std::to_string(i) + ".safetensors";
    for (const support::tensor& each : all) shards[random() % 3].tensors.push_back(each);
    std::filesystem::create_directory(directory / "in");
    support::write_checkpoint(directory / "in", shards);

    const auto before = sf::checkpoint::open(directory / "in");
    const auto scopes = sf::experts_scopes::find(*before, sf::description_of<qwen>);
    REQUIRE(scopes);
    for (const std::uint64_t most : {sf::default_shard_bytes, std::uint64_t{300'000},
                                     std::uint64_t{1000}, sf::one_tensor_per_file}) {
        CAPTURE(most);
        const std::string to = directory / ("out" + std::to_string(most));
        const auto plan = sf::repack_plan(*before, sf::description_of<qwen>);
        REQUIRE(plan);
        CHECK(plan->total_bytes() ==
              std::accumulate(all.begin(), all.end(), std::uint64_t{0},
                              [](auto sum, const auto& each) { return sum + each.data.size(); }));
        const auto done =
            sf::rewrite(*plan, to, {.max_shard_bytes = most, .wait = sf::durability::renamed});
        REQUIRE(done);
        CHECK((done->shard_count > 1) == (most != sf::default_shard_bytes));
        const auto repacked = sf::checkpoint::open(to, {.read = sf::read_options::strict()});
        REQUIRE(repacked);
        check_same(*repacked, all);
        CHECK(sf::verify_rewritten(*plan, *repacked));
        for (std::size_t f = 0; f < repacked->file_count(); ++f)
            CHECK(repacked->file(f).header().header_bytes() % sf::repacked_alignment == 0);

        for (const char* scope : {"model.layers.2.mlp.experts", "model.layers.10.mlp.experts",
                                  "mtp.layers.0.mlp.experts"}) {
            CAPTURE(scope);
            const auto old_plan = sf::plan<qwen>(*before, scope),
                       new_plan = sf::plan<qwen>(*repacked, scope);
            REQUIRE((old_plan && new_plan));
            for (const sf::plan_output& output : new_plan->outputs()) {
                CAPTURE(output.local_name);
                CHECK(sf::view(*old_plan, output.local_name).error().code ==
                      sf::errc::not_resident);
                const auto seen = sf::view(*new_plan, output.local_name);
                REQUIRE(seen);
                CHECK(string_of(seen->bytes()) == fused(*old_plan, output));
                const sf::copy_block* run = new_plan->single_run(
                    static_cast<std::size_t>(&output - new_plan->outputs().data()));
                REQUIRE(run != nullptr);
                if (output.size_bytes % sf::repacked_alignment == 0)
                    CHECK(run->source_offset % sf::repacked_alignment == 0);
                CHECK(run->source_offset % 2 == 0);  // the alignment that typed views of BF16 need
            }
        }
        // the repacked checkpoint fuses to the same bytes as the original
        const auto one = sf::rewrite_plan::make(*before, sf::description_of<qwen>),
                   other = sf::rewrite_plan::make(*repacked, sf::description_of<qwen>);
        REQUIRE(sf::rewrite(*one, to + "-one", {.wait = sf::durability::renamed}));
        REQUIRE(sf::rewrite(*other, to + "-other", {.wait = sf::durability::renamed}));
        CHECK(support::read_file(to + "-one/model.safetensors") ==
              support::read_file(to + "-other/model.safetensors"));
    }
}

TEST_CASE("repack: a second time nothing changes") {
    const temporary_directory directory;
    std::filesystem::create_directory(directory / "in");
    support::write_tensor_file(directory / "in/model.safetensors",
                               layer_of("model.layers.0", 3, 32, 64));
    const auto in = sf::checkpoint::open(directory / "in");
    REQUIRE(sf::rewrite(sf::repack_plan(*in, sf::description_of<qwen>).value(), directory / "once",
                        {.wait = sf::durability::renamed}));
    const auto once = sf::checkpoint::open(directory / "once");
    const auto again = sf::repack_plan(*once, sf::description_of<qwen>);
    REQUIRE(again);
    REQUIRE(sf::rewrite(*again, directory / "twice", {.wait = sf::durability::renamed}));
    CHECK(support::read_file(directory / "once/model.safetensors") ==
          support::read_file(directory / "twice/model.safetensors"));
    const auto outline = sf::outline_of(*again);
    CHECK(sf::unchanged_source(*again, *outline, 0).value() == 0);
}

TEST_CASE(
    "repack: outputs that do not consist of whole tensors stay as they are, the others are "
    "still made contiguous") {
    const temporary_directory directory;
    std::filesystem::create_directory(directory / "in");
    const auto all = layer_of("model.layers.0", 5, 8, 16);
    support::write_tensor_file(directory / "in/model.safetensors", all);
    const auto in = sf::checkpoint::open(directory / "in");
    const auto plan = sf::repack_plan(*in, sf::description_of<in_turn>);
    REQUIRE(plan);
    REQUIRE(sf::rewrite(*plan, directory / "out", {.wait = sf::durability::renamed}));
    const auto out = sf::checkpoint::open(directory / "out");
    check_same(*out, all);
    const auto scope = sf::plan<in_turn>(*out, "model.layers.0.mlp.experts");
    REQUIRE(scope);
    CHECK(sf::view(*scope, "down_proj"));
    CHECK(!sf::view(*scope, "gate_up_proj"));
    CHECK(sf::repack_plan(*in, sf::description_of<sf::families::mixtral>)->scopes().size() ==
          0);  // unchanged, in natural order
}

TEST_CASE(
    "repack: every family's checkpoint can be repacked; then each fused output that is no "
    "strided copy is a view") {
    for (const char* type : {"qwen3_moe", "glm_moe_dsa", "deepseek_v3", "mixtral", "minimax_m2",
                             "phimoe", "nemotron_h", "ernie4_5_moe", "hy_v3", "jamba"}) {
        CAPTURE(type);
        const temporary_directory directory;
        const sf::family_description* const family = sf::find_family(type);
        REQUIRE(family != nullptr);
        const auto in = sf::checkpoint::open(SAFEFUSE_TEST_DATA "/transformers/" +
                                             std::string{type} + "/checkpoint");
        REQUIRE(in);
        const auto plan = sf::repack_plan(*in, *family);
        REQUIRE(plan);
        REQUIRE(sf::rewrite(*plan, directory / "out", {.wait = sf::durability::renamed}));
        const auto out = sf::checkpoint::open(directory / "out");
        REQUIRE(out);
        CHECK(sf::verify_rewritten(*plan, *out));
        const auto scopes = sf::experts_scopes::find(*out, *family);
        REQUIRE(scopes);
        std::size_t views = 0;
        for (std::size_t s = 0; s < scopes->size(); ++s) {
            const auto scope = sf::plan(*out, (*scopes)[s], *family, sf::direction::forward);
            REQUIRE(scope);
            std::vector<bool> strided(scope->outputs().size(), false);
            for (const sf::copy_block& block : scope->blocks())
                strided[block.output] = strided[block.output] || block.loop_count > 0;
            for (std::size_t o = 0; o < strided.size(); ++o) {
                if (strided[o] || !scope->equal_blocks().empty()) continue;
                CHECK(sf::view(*scope, scope->outputs()[o].local_name));
                ++views;
            }
        }
        CHECK(views > 0);
    }
}
