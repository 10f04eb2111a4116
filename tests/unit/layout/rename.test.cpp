#include <safefuse/layout/rename.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/detect/detect.hpp>

namespace sf = safefuse;

namespace {

std::string new_name(const sf::rename_list& renames, std::string_view name) {
    auto out = sf::renamed(renames, name);
    REQUIRE(out);
    return std::string{out->view()};
}
using descriptions = std::vector<sf::rename_description>;
sf::rename_list way_of(const descriptions& renames, bool inverse) {
    return {renames.data(), renames.size(), inverse};
}
std::string there(const descriptions& renames, std::string_view name) {
    return new_name(way_of(renames, false), name);
}
std::string back(const descriptions& renames, std::string_view name) {
    return new_name(way_of(renames, true), name);
}

/// How transformers renames the tensors of a checkpoint. Written by tests/interop/families.py
/// --names.
struct renamed_tensor {
    std::string model_type, stored, model;
};
const std::vector<renamed_tensor>& transformers_names() {
    static const auto all = [] {
        std::vector<renamed_tensor> rows;
        std::ifstream file{SAFEFUSE_TEST_DATA "/transformers/names.tsv"};
        renamed_tensor row;
        while (std::getline(file, row.model_type, '\t') && std::getline(file, row.stored, '\t') &&
               std::getline(file, row.model))
            rows.push_back(row);
        return rows;
    }();
    return all;
}

}  // namespace

TEST_CASE("rename: replaces whole segments, at any place, once") {
    constexpr auto ffn = sf::rename("ffn", "mlp");
    CHECK(there({ffn}, "ffn") == "mlp");
    CHECK(there({ffn}, "ffn.gate") == "mlp.gate");
    CHECK(there({ffn}, "a.ffn") == "a.mlp");
    CHECK(there({ffn}, "a.ffn.") == "a.mlp.");
    for (const char* name : {"", "ff", "ffnx", "xffn.gate", "a.ffn_x.gate", "a.x_ffn.gate", "Ffn"})
        CHECK(there({ffn}, name) == name);
    // a similar segment does not hide a match
    CHECK(there({ffn}, "ffn_x.ffn.gate") == "ffn_x.mlp.gate");
    CHECK(there({ffn}, "xffn.ffn") == "xffn.mlp");
    CHECK(there({ffn}, "ffn.ffn") == "mlp.ffn");
    CHECK(there({sf::rename("a.b", "c")}, "a.a.b.b") == "a.c.b");
    CHECK(there({sf::rename("mlp.gate.bias", "mlp.gate.correction")}, "l.0.mlp.gate.bias") ==
          "l.0.mlp.gate.correction");
    CHECK(there({sf::rename("mlp.gate.bias", "mlp.gate.correction")}, "l.0.mlp.gate.bias_x") ==
          "l.0.mlp.gate.bias_x");
}

TEST_CASE("rename: with ^ it applies only at the beginning of the name") {
    constexpr auto backbone = sf::rename("^backbone", "model");
    CHECK(there({backbone}, "backbone") == "model");
    CHECK(there({backbone}, "backbone.x") == "model.x");
    CHECK(there({backbone}, "backbones.x") == "backbones.x");
    CHECK(there({backbone}, "model.backbone.x") == "model.backbone.x");
    CHECK(back({backbone}, "model.layers.0.model.x") == "backbone.layers.0.model.x");
    CHECK(back({backbone}, "lm_head.model.x") == "lm_head.model.x");
}

TEST_CASE("rename: {i} keeps digits, within a segment or as a whole one") {
    constexpr auto linear = sf::rename("layers.linear_{i}", "encoder_layers.{i}.projection");
    CHECK(there({linear}, "v.layers.linear_0.weight") == "v.encoder_layers.0.projection.weight");
    CHECK(there({linear}, "v.layers.linear_12.weight") == "v.encoder_layers.12.projection.weight");
    CHECK(there({linear}, "v.layers.linear_12") == "v.encoder_layers.12.projection");
    CHECK(there({linear}, "v.layers.linear_12x.weight") == "v.layers.linear_12x.weight");
    CHECK(there({linear}, "v.layers.linear_.weight") == "v.layers.linear_.weight");
    CHECK(there({linear}, "v.layers.linear_x.weight") == "v.layers.linear_x.weight");
    CHECK(back({linear}, "v.encoder_layers.12.projection.weight") == "v.layers.linear_12.weight");
    // a place that does not match does not hide one that does
    CHECK(there({linear}, "layers.linear_x.layers.linear_3") ==
          "layers.linear_x.encoder_layers.3.projection");
    constexpr auto two = sf::rename("^b.{i}.n{i}", "layers.{i}.norm{i}.x");
    CHECK(there({two}, "b.7.n2.weight") == "layers.7.norm2.x.weight");
    CHECK(back({two}, "layers.7.norm2.x.weight") == "b.7.n2.weight");
    CHECK(there({two}, "a.b.7.n2.weight") == "a.b.7.n2.weight");
    CHECK(there({sf::rename("{i}.attn", "{i}.self_attn")}, "layers.3.attn.x") ==
          "layers.3.self_attn.x");
}

TEST_CASE("rename: a name that has the new segments already keeps them") {
    constexpr auto router = sf::rename("router.layer", "router");
    CHECK(there({router}, "m.router.layer.weight") == "m.router.weight");
    CHECK(back({router}, "m.router.weight") == "m.router.layer.weight");
    CHECK(back({router}, "m.router.layer.weight") == "m.router.layer.weight");
    constexpr auto inserted = sf::rename("norm", "language_model.norm");
    CHECK(there({inserted}, "model.norm.weight") == "model.language_model.norm.weight");
    CHECK(there({inserted}, "model.language_model.norm.weight") ==
          "model.language_model.norm.weight");
    CHECK(there({inserted}, "language_model.norm") == "language_model.norm");
    CHECK(there({inserted}, "model.xlanguage_model.norm") ==
          "model.xlanguage_model.language_model.norm");
    // a name that is already renamed does not hide one that is not
    CHECK(there({inserted}, "language_model.norm.norm") ==
          "language_model.norm.language_model.norm");
    constexpr auto prefix = sf::rename("^model", "model.language_model");
    CHECK(there({prefix}, "model.x") == "model.language_model.x");
    CHECK(there({prefix}, "model.language_model.x") == "model.language_model.x");
    CHECK(back({prefix}, "model.language_model.x") == "model.x");
    CHECK(back({prefix}, "model.x") == "model.x");
}

TEST_CASE("rename: several apply in order, and their inverses in the opposite order") {
    constexpr auto first = sf::rename("^transformer.h", "model.layers");
    constexpr auto second = sf::rename("ffn", "mlp");
    constexpr auto third = sf::rename("mlp.gate", "mlp.router");
    CHECK(there({first, second, third}, "transformer.h.3.ffn.gate.weight") ==
          "model.layers.3.mlp.router.weight");
    CHECK(back({first, second, third}, "model.layers.3.mlp.router.weight") ==
          "transformer.h.3.ffn.gate.weight");
    // names that move up by one: the last one is renamed first
    constexpr auto to_two = sf::rename("norm1", "norm2");
    constexpr auto to_one = sf::rename("norm0", "norm1");
    CHECK(there({to_two, to_one}, "b.norm0") == "b.norm1");
    CHECK(there({to_two, to_one}, "b.norm1") == "b.norm2");
    CHECK(back({to_two, to_one}, "b.norm1") == "b.norm0");
    CHECK(back({to_two, to_one}, "b.norm2") == "b.norm1");
    CHECK(there({}, "b.norm2") == "b.norm2");
}

TEST_CASE("rename: a spelling that is only read is not restored by the inverse") {
    constexpr auto written = sf::rename("moe.gate", "mlp.gate");
    constexpr auto read = sf::alias("moe", "mlp");
    CHECK(there({written, read}, "l.moe.gate.weight") == "l.mlp.gate.weight");
    CHECK(there({written, read}, "l.moe.down.weight") == "l.mlp.down.weight");
    CHECK(back({written, read}, "l.mlp.gate.weight") == "l.moe.gate.weight");
    CHECK(back({written, read}, "l.mlp.down.weight") == "l.mlp.down.weight");
    CHECK(way_of({written, read}, false).size() == 2);
    CHECK(way_of({written, read}, true).size() == 1);
    CHECK(way_of({read}, true).empty());
}

TEST_CASE("rename: the compiler can find segments") {
    static_assert(sf::detail::find_segments("a.b.c", "b") == 2);
    static_assert(sf::detail::find_segments("a.bb.b", "b") == 5);
    static_assert(sf::detail::find_segments("a.b.c", "b", true) == std::string_view::npos);
    static_assert(sf::detail::find_segments("a.b", "a.b.c") == std::string_view::npos);
    static_assert(sf::detail::find_segments("a.b", "") == std::string_view::npos);
    static_assert(sf::detail::find_segments("", "a") == std::string_view::npos);
    static_assert(sf::detail::find_rename("a.b12.c", sf::rename("b{i}", "x.{i}")).size == 3);
    for (const char* none : {"", ".", "a.", ".a", "a..b", "a.*", "a^", "$a", "a\\.b", "{number",
                             "{numbers}", "{{i}}", "{i}.{i}.{i}"}) {
        CAPTURE(none);
        CHECK(sf::detail::count_numbers(none) == sf::detail::no_pattern);
    }
    static_assert(sf::detail::count_numbers("a.b_c") == 0);
    static_assert(sf::detail::count_numbers("a.{i}.b_{i}") == 2);
    static_assert(!sf::detail::is_rename(sf::rename("a.{i}", "b")));
    static_assert(sf::detail::is_rename(sf::rename("^a.{i}", "b{i}.c")));
    static_assert(sf::detail::is_rename(sf::rename("a.{i}", "b.{i+1}")));
    static_assert(!sf::detail::is_rename(sf::rename("a.{i}", "b.{i+0}")));
    static_assert(!sf::detail::is_rename(sf::rename("a.{i}", "b.{i+10}")));
    static_assert(!sf::detail::is_rename(sf::rename("a.{i}", "b.{i-1}")));
}

TEST_CASE("rename: a number may be shifted, and the inverse shifts it back") {
    constexpr sf::rename_description renames[] = {sf::rename("queries.{i}", "layers.{i+1}.query")};
    const sf::rename_list there{renames, 1, false}, back{renames, 1, true};
    for (const auto& [stored, model] :
         {std::pair{"queries.0", "layers.1.query"}, std::pair{"a.queries.9", "a.layers.10.query"},
          std::pair{"queries.99999999999999999.w", "layers.100000000000000000.query.w"}}) {
        CHECK(new_name(there, stored) == model);
        CHECK(new_name(back, model) == stored);
    }
    // none of the model's names: numbers below 0 or not plain
    for (const char* name :
         {"layers.0.query", "layers.07.query", "layers.18446744073709551617.query"})
        CHECK(new_name(back, name) == name);
}

TEST_CASE(
    "rename: names of an older version become the newer version's, in both directions and in "
    "any form") {
    constexpr sf::rename_description renames[] = {
        sf::rename("^model.llm.norm", "model.text.norm"),
        sf::always(sf::rename("^visual", "model.visual")),
        sf::formerly("^model.lm.norm", "model.text.norm")};
    const sf::rename_list there{renames, 3, false}, back{renames, 3, true};
    CHECK(new_name(there, "model.llm.norm.weight") == "model.text.norm.weight");
    CHECK(new_name(there, "model.lm.norm.weight") == "model.text.norm.weight");
    CHECK(new_name(back, "model.lm.norm.weight") == "model.llm.norm.weight");
    CHECK(new_name(back, "model.text.norm.weight") == "model.llm.norm.weight");
    const auto certain = [&](std::string_view name) {
        return std::string{sf::renamed_always(there, name).value().view()};
    };
    CHECK(certain("model.llm.norm.weight") == "model.llm.norm.weight");
    CHECK(certain("model.lm.norm.weight") == "model.text.norm.weight");
    CHECK(certain("visual.weight") == "model.visual.weight");
    CHECK(certain("model.visual.weight") == "model.visual.weight");
}

TEST_CASE(
    "rename: every family gives the names that transformers gives, and the inverse restores "
    "them") {
    REQUIRE(transformers_names().size() > 300);
    std::set<std::string> types;
    for (const renamed_tensor& each : transformers_names()) {
        CAPTURE(each.model_type);
        CAPTURE(each.stored);
        types.insert(each.model_type);
        const sf::family_description* family = sf::find_family(each.model_type);
        REQUIRE(family != nullptr);
        CHECK(new_name(family->renames, each.stored) == each.model);
        CHECK(new_name(family->renames.reversed(), each.model) == each.stored);
    }
    // every family with renames occurs
    for (const sf::family_description& family : sf::shipped_families::all) {
        bool renames_stored = false;  // beside names of older versions of the model
        for (const sf::rename_description each : family.renames.reversed())
            renames_stored = renames_stored || !each.is_older;
        if (!renames_stored) continue;
        CAPTURE(family.name);
        bool is_shown = false;
        for (const std::string_view type : family.model_types)
            is_shown = is_shown || types.count(std::string{type}) != 0;
        CHECK(is_shown);
    }
}

TEST_CASE("rename: scales of DeepSeek-V4 get transformers' names of FP8 scales") {
    const sf::family_description& family = *sf::find_family("deepseek_v4");
    const char* pairs[][2] = {
        {"layers.0.attn.wq_a.scale", "model.layers.0.self_attn.q_a_proj.weight_scale_inv"},
        {"layers.0.attn.wq_b.scale", "model.layers.0.self_attn.q_b_proj.weight_scale_inv"},
        {"layers.0.attn.wkv.scale", "model.layers.0.self_attn.kv_proj.weight_scale_inv"},
        {"layers.0.attn.wo_a.scale", "model.layers.0.self_attn.o_a_proj.weight_scale_inv"},
        {"layers.0.attn.wo_b.scale", "model.layers.0.self_attn.o_b_proj.weight_scale_inv"},
        {"layers.0.attn.indexer.wq_b.scale",
         "model.layers.0.self_attn.compressor.indexer.q_b_proj.weight_scale_inv"},
        {"layers.0.ffn.shared_experts.w1.scale",
         "model.layers.0.mlp.shared_experts.gate_proj.weight_scale_inv"},
        {"layers.0.ffn.shared_experts.w2.scale",
         "model.layers.0.mlp.shared_experts.down_proj.weight_scale_inv"},
        {"layers.0.ffn.shared_experts.w3.scale",
         "model.layers.0.mlp.shared_experts.up_proj.weight_scale_inv"},
    };
    for (const auto& [stored, model] : pairs) {
        CHECK(new_name(family.renames, stored) == model);
        CHECK(new_name(family.renames.reversed(), model) == stored);
        CHECK(new_name(family.renames, model) == model);
    }
}

TEST_CASE("rename: a name that is new already stays, in both directions") {
    for (const renamed_tensor& each : transformers_names()) {
        CAPTURE(each.model_type);
        const sf::family_description& family = *sf::find_family(each.model_type);
        CHECK(new_name(family.renames, each.model) == each.model);
        CHECK(new_name(family.renames.reversed(), each.stored) == each.stored);
    }
}

TEST_CASE("rename: every rename of a family is needed for some tensor") {
    for (const sf::family_description& family : sf::shipped_families::all) {
        CAPTURE(family.name);
        std::size_t number = 0;
        for (const sf::rename_description rename : family.renames) {
            const std::size_t of_this = number++;
            if (!rename.tells_family)
                continue;  // aliases, scales and so on need not occur in these models
            CAPTURE(rename.from);
            bool is_used = false;
            for (const renamed_tensor& each : transformers_names()) {
                if (sf::find_family(each.model_type) != &family) continue;
                sf::text name{each.stored};
                bool memory = true;
                std::size_t step = 0;
                for (const sf::rename_description one : family.renames) {
                    const bool applies = sf::detail::apply_rename(name, one, memory);
                    is_used = is_used || (applies && step == of_this);
                    ++step;
                }
            }
            CHECK(is_used);
        }
    }
}
