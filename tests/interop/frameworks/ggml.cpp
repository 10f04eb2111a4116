#include <ggml.hpp>
#include <named_tensors.hpp>

#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <ggml-cpu.h>
#include <gguf.h>

#include <doctest/doctest.h>

#include "experts.hpp"

namespace sf = safefuse;

namespace {

struct free_context {
    void operator()(ggml_context* context) const { ggml_free(context); }
    void operator()(gguf_context* context) const { gguf_free(context); }
};
using context = std::unique_ptr<ggml_context, free_context>;

context make_context() {
    return context{ggml_init({.mem_size = 16 << 20, .mem_buffer = nullptr, .no_alloc = false})};
}

ggml_tensor* new_tensor(ggml_context* in, enum ggml_type type, sf::shape_view shape) {
    const auto ne = adapt::ggml_extents(shape);
    REQUIRE(ne);
    return ggml_new_tensor(in, type, static_cast<int>(shape.size()), ne->data());
}

// The experts stacked by ggml itself, along its third axis.
ggml_tensor* stacked_by_ggml(ggml_context* in, const sf::checkpoint& checkpoint,
                             enum ggml_type type, const char* part) {
    ggml_tensor* all = nullptr;
    for (int e = 0; e < experts::count; ++e) {
        const auto view = checkpoint.find(experts::name(e, part));
        REQUIRE(view);
        ggml_tensor* const one = new_tensor(in, type, view->shape());
        REQUIRE(ggml_nbytes(one) == view->size_bytes());
        std::memcpy(one->data, view->bytes().data(), view->size_bytes());
        all = all == nullptr ? one : ggml_concat(in, all, one, 2);
    }
    ggml_cgraph* const graph = ggml_new_graph(in);
    ggml_build_forward_expand(graph, all);
    REQUIRE(ggml_graph_compute_with_ctx(in, graph, 1) == GGML_STATUS_SUCCESS);
    return all;
}

bool same_bytes(const ggml_tensor* a, const ggml_tensor* b) {
    return ggml_are_same_shape(a, b) && ggml_nbytes(a) == ggml_nbytes(b) &&
           std::memcmp(a->data, b->data, ggml_nbytes(a)) == 0;
}

}  // namespace

TEST_CASE("ggml: fusing gives what ggml concatenates itself, with extents reversed") {
    for (const auto type : {sf::dtype::f32, sf::dtype::bf16}) {
        enum ggml_type theirs {};
        REQUIRE(adapt::ggml_type_of(type, theirs));
        const support::temporary_directory directory;
        experts::write(directory, type);
        const auto checkpoint = sf::checkpoint::open(directory.string());
        REQUIRE(checkpoint);
        const auto plan =
            sf::plan<sf::layouts::per_expert, sf::engines::gguf>(*checkpoint, experts::scope);
        REQUIRE(plan);
        const context in = make_context();
        const std::map<std::string, const char*> outputs{{"ffn_gate_exps.weight", "gate"},
                                                         {"ffn_up_exps.weight", "up"},
                                                         {"ffn_down_exps.weight", "down"}};
        for (const auto& each : outputs) {
            const std::string& name = each.first;
            const char* const part = each.second;
            CAPTURE(name);
            const auto output = plan->output(name);
            REQUIRE(output);
            adapt::ggml_rank made{new_tensor(in.get(), theirs, output->shape),
                                  static_cast<int>(output->shape.size())};
            CHECK(made.tensor->ne[0] ==
                  (std::string_view{part} == "down" ? experts::intermediate : experts::hidden));
            CHECK(made.tensor->ne[1] ==
                  (std::string_view{part} == "down" ? experts::hidden : experts::intermediate));
            CHECK(made.tensor->ne[2] == experts::count);
            REQUIRE(sf::fuse(*plan, name, made));
            CHECK(same_bytes(made.tensor, stacked_by_ggml(in.get(), *checkpoint, theirs, part)));
            if (type == sf::dtype::f32 && std::string_view{part} == "up")
                CHECK(ggml_get_f32_nd(made.tensor, 5, 3, 2, 0) == 2 * 72 + 24 + 3 * 6 + 5 + 1);

            adapt::ggml_rank flat{made.tensor, 2};
            CHECK(sf::fuse(*plan, name, flat).error().code == sf::errc::shape_mismatch);
            adapt::ggml_rank of_other_type{new_tensor(in.get(), GGML_TYPE_F16, output->shape), 3};
            CHECK(sf::fuse(*plan, name, of_other_type).error().code == sf::errc::dtype_mismatch);
        }
    }
}

TEST_CASE("ggml: plans are made from its tensors, and a GGUF file stores the fused ones") {
    const support::temporary_directory directory;
    experts::write(directory, sf::dtype::f32);
    const auto checkpoint = sf::checkpoint::open(directory.string());
    REQUIRE(checkpoint);
    const context in = make_context();
    std::map<std::string, adapt::ggml_rank> tensors;
    for (const char* part : {"gate", "up", "down"})
        tensors.emplace(
            "blk.0.ffn_" + std::string{part} + "_exps.weight",
            adapt::ggml_rank{stacked_by_ggml(in.get(), *checkpoint, GGML_TYPE_F32, part), 3});
    const auto named = adapt::named_tensors::of(tensors);
    REQUIRE(named);
    const auto set = named->list();
    const auto plan = sf::plan<sf::engines::gguf, sf::layouts::per_expert>(set, "blk.0");
    REQUIRE(plan);
    for (int e = 0; e < experts::count; ++e)
        for (const char* part : {"gate", "up", "down"}) {
            const auto original = checkpoint->find(experts::name(e, part));
            std::vector<std::byte> one(original->size_bytes());
            REQUIRE(sf::fuse(*plan, std::to_string(e) + '.' + part + "_proj.weight", one));
            CHECK(std::memcmp(one.data(), original->bytes().data(), one.size()) == 0);
        }

    const std::string path = directory / "experts.gguf";
    {
        const std::unique_ptr<gguf_context, free_context> file{gguf_init_empty()};
        for (auto& [name, tensor] : tensors) {
            ggml_set_name(tensor.tensor, name.c_str());
            gguf_add_tensor(file.get(), tensor.tensor);
        }
        REQUIRE(gguf_write_to_file(file.get(), path.c_str(), false));
    }
    ggml_context* loaded = nullptr;
    const std::unique_ptr<gguf_context, free_context> file{
        gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &loaded})};
    const context owned{loaded};
    REQUIRE(file);
    for (auto& [name, tensor] : tensors) {
        ggml_tensor* const read = ggml_get_tensor(loaded, name.c_str());
        REQUIRE(read != nullptr);
        CHECK(same_bytes(read, tensor.tensor));
    }
}

TEST_CASE(
    "ggml: 8 of the 22 dtypes are known, by name, with the same size; the others are refused, and "
    "so are ggml's own types") {
    const std::map<std::string_view, std::string_view> known{
        {"F32", "f32"}, {"F16", "f16"}, {"BF16", "bf16"}, {"F64", "f64"},
        {"I8", "i8"},   {"I16", "i16"}, {"I32", "i32"},   {"I64", "i64"}};
    std::size_t count = 0;
    for (std::size_t i = 0; i < sf::dtype_count; ++i) {
        const auto type = static_cast<sf::dtype>(i);
        CAPTURE(sf::name(type));
        enum ggml_type theirs {};
        REQUIRE(adapt::ggml_type_of(type, theirs) == known.contains(sf::name(type)));
        if (!known.contains(sf::name(type))) continue;
        ++count;
        CHECK(std::string_view{ggml_type_name(theirs)} == known.at(sf::name(type)));
        CHECK(ggml_type_size(theirs) * 8 == sf::bits(type));
        sf::dtype back{};
        REQUIRE(adapt::find_dtype(theirs, back));
        CHECK(back == type);
    }
    CHECK(count == 8);
    std::size_t dtypes = 0;
    for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
        sf::dtype back{};
        dtypes += adapt::find_dtype(static_cast<enum ggml_type>(i), back);
    }
    CHECK(dtypes == 8);

    const context in = make_context();
    const std::uint64_t shape[]{2, 32};
    adapt::ggml_rank blocks{new_tensor(in.get(), GGML_TYPE_Q8_0, shape), 2};
    CHECK(sf::tensor_traits<adapt::ggml_rank>::bytes(blocks).empty());
    const std::uint64_t five[]{1, 1, 1, 1, 1};
    CHECK(adapt::ggml_extents(five).error().code == sf::errc::shape_mismatch);
}
