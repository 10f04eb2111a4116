#include <safefuse/run/fuse.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>

#include "../../support/laws.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using sf::errc;

namespace {

/// A framework's tensor.
struct framework_tensor {
    std::vector<std::byte> storage;
    sf::dtype element = sf::dtype::bf16;
    std::vector<u64> extents;
};
/// A tensor whose extents are stored in reverse and computed on demand.
struct backwards_tensor {
    std::vector<std::byte> storage;
    std::vector<u64> extents;
};

}  // namespace

template <>
struct safefuse::tensor_traits<framework_tensor> {
    static std::span<std::byte> bytes(framework_tensor& t) { return t.storage; }
    static dtype type(const framework_tensor& t) { return t.element; }
    static const std::vector<u64>& shape(const framework_tensor& t) { return t.extents; }
};
template <>
struct safefuse::tensor_traits<backwards_tensor> {
    static std::span<std::byte> bytes(backwards_tensor& t) { return t.storage; }
    static dtype type(const backwards_tensor&) { return dtype::bf16; }
    static std::vector<u64> shape(const backwards_tensor& t) {
        return {t.extents.rbegin(), t.extents.rend()};
    }
};

namespace {

static_assert(sf::writable_tensor<framework_tensor>);
static_assert(sf::writable_tensor<backwards_tensor>);
static_assert(!sf::writable_tensor<std::vector<std::byte>>);

std::vector<std::byte> fused(const sf::copy_plan& plan, std::string_view local) {
    const auto output = plan.output(local);
    REQUIRE(output);
    std::vector<std::byte> out(static_cast<std::size_t>(output->size_bytes), std::byte{0xEE});
    auto done = sf::fuse(plan, local, out);
    INFO(std::string{done ? std::string_view{} : done.error().message().view()});
    REQUIRE(done);
    return out;
}

/// Outputs of the obvious implementation, by local name.
std::vector<std::byte> expected(const laws::experts& x, laws::kind to, std::string_view local) {
    for (const auto& each : laws::stored(to, x))
        if (each.name == local) return laws::packed(x.type_of(each.of), each.elements);
    FAIL("no such output");
    return {};
}

}  // namespace

TEST_CASE("fuse: tensors in memory fuse without a file") {
    std::vector<std::vector<std::uint16_t>> values;
    std::vector<std::string> names;
    const u64 wide[] = {2, 3}, tall[] = {3, 2};
    for (std::uint16_t e = 0; e < 4; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
            names.push_back("moe." + std::to_string(e) + "." + part + ".weight");
            std::vector<std::uint16_t> made;
            for (std::uint16_t i = 0; i < 6; ++i)
                made.push_back(static_cast<std::uint16_t>(names.size() * 100 + i));
            values.push_back(made);
        }
    std::vector<sf::named_tensor> tensors;
    for (std::size_t i = 0; i < names.size(); ++i) {
        auto view = sf::tensor_view::of(sf::dtype::bf16,
                                        i % 3 == 2 ? sf::shape_view{tall} : sf::shape_view{wide},
                                        std::as_bytes(std::span{values[i]}));
        REQUIRE(view);
        tensors.push_back({names[i], *view});
    }
    std::shuffle(tensors.begin(), tensors.end(), std::mt19937{7});
    const sf::tensor_list set{tensors};
    auto plan = sf::plan<sf::layouts::per_expert, sf::layouts::gate_up_fused>(set, "moe");
    REQUIRE(plan);
    std::vector<std::uint16_t> out(4 * 4 * 3);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", std::as_writable_bytes(std::span{out})));
    for (std::size_t e = 0; e < 4; ++e)
        for (std::size_t i = 0; i < 6; ++i) {
            CHECK(out[e * 12 + i] == (e * 3 + 1) * 100 + i);
            CHECK(out[e * 12 + 6 + i] == (e * 3 + 2) * 100 + i);
        }
}

TEST_CASE("fuse: a source that is not in memory gives the same bytes, and each is read once") {
    const laws::experts shapes[] = {
        {.end_expert = 3,
         .i_end = 64,
         .h = 5,
         .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}},
        {.end_expert = 2, .i_end = 128, .h = 96},  // runs of 24 KiB
        {.end_expert = 2,
         .i_end = 128,
         .h = 3000,
         .type = sf::dtype::f32},  // longer than the buffer
        {.end_expert = 12, .i_end = 64, .h = 7, .type = sf::dtype::f8_e4m3},
    };
    for (const laws::experts& x : shapes)
        for (const laws::kind from : laws::all_kinds) {
            if (x.h == 3000 && from != laws::kind::per_expert && from != laws::kind::gate_up &&
                from != laws::kind::columns_in_turn)
                continue;
            packed_set set = laws::make_set(from, x, "moe");
            set.resident = false;
            for (const laws::kind to : laws::all_kinds) {
                if (x.h == 3000 && to != laws::kind::gate_up && to != laws::kind::transposed &&
                    to != laws::kind::rows_64)
                    continue;
                INFO(laws::spelled(from), " to ", laws::spelled(to), " H ", x.h);
                auto plan = laws::plan_kinds(set, "moe", from, to, {.allow_missing_scales = true});
                REQUIRE(plan);
                for (auto& source : set.times_read) std::fill(source.begin(), source.end(), 0u);
                set.read_calls = set.read_bytes = 0;
                std::vector<std::vector<std::byte>> outputs;
                for (const auto& each : plan->outputs())
                    outputs.emplace_back(static_cast<std::size_t>(each.size_bytes),
                                         std::byte{0xEE});
                std::vector<std::span<std::byte>> buffers{outputs.begin(), outputs.end()};
                REQUIRE(sf::fuse(*plan, buffers));
                for (std::size_t i = 0; i < outputs.size(); ++i)
                    CHECK(outputs[i] == expected(x, to, plan->outputs()[i].local_name));
                const auto [least, most] =
                    std::minmax_element(set.times_read[0].begin(), set.times_read[0].end());
                CHECK(*least == 1);
                CHECK(*most == 1);
                CHECK(set.read_bytes == plan->size_bytes());
            }
        }
}

TEST_CASE("fuse: short runs that begin before others in the source are read separately") {
    // two runs of a split plan, without the one between them
    packed_set set;
    set.add("moe.all", sf::dtype::u8, {3000});
    set.resident = false;
    const sf::copy_block late{
        .source_offset = 900, .run_bytes = 10, .loop_count = 1, .loops = {{5, 20, 10}}};
    const sf::copy_block early{.source_offset = 60,
                               .destination_offset = 50,
                               .run_bytes = 10,
                               .loop_count = 1,
                               .loops = {{50, 20, 10}}};
    const sf::copy_block blocks[] = {late, early};
    std::vector<std::byte> out(550, std::byte{0xEE}), wanted(550);
    for (const sf::copy_block& each : blocks)
        for (u64 i = 0; i < each.size_bytes(); ++i)
            wanted[each.destination_offset + i] =
                set.held_bytes(0)[each.source_offset + i / 10 * 20 + i % 10];
    sf::vector<std::byte> buffer;
    REQUIRE(
        sf::detail::run_blocks(sf::tensor_set_ref{set}, blocks, buffer, {0, out.data()}, false));
    CHECK(out == wanted);
}

TEST_CASE("fuse: a slice of a source that is not in memory gives the same bytes") {
    const laws::experts x{.end_expert = 4, .i_end = 128, .h = 24};
    for (const laws::kind from : laws::all_kinds) {
        packed_set set = laws::make_set(from, x, "moe");
        set.resident = false;
        for (const laws::kind to : laws::all_kinds) {
            INFO(laws::spelled(from), " to ", laws::spelled(to));
            laws::experts kept = x;
            kept.first_expert = 1;
            kept.end_expert = 3;
            kept.i_first = 64;
            auto plan = laws::plan_kinds(set, "moe", from, to,
                                         {.first_expert = 1,
                                          .end_expert = 3,
                                          .sliced_extent = "I",
                                          .slice_first = 64,
                                          .slice_end = 128});
            REQUIRE(plan);
            set.read_bytes = 0;
            for (const auto& each : plan->outputs())
                CHECK(fused(*plan, each.local_name) == expected(kept, to, each.local_name));
            // expert ranges and halves of I read at most the tensors of the kept experts
            if (from == laws::kind::per_expert) CHECK(set.read_bytes <= 2u * 3 * 128 * 24 * 2);
        }
    }
}

TEST_CASE(
    "fuse: of a source that is not in memory, long gaps are skipped, short gaps are read, and "
    "no byte is read twice") {
    // bytes that the plan's copies take, by source byte; counted by hand
    const auto needed_bytes = [](const sf::copy_plan& plan, std::size_t size,
                                 const std::vector<bool>& wanted) {
        std::vector<bool> needed(size);
        for (const sf::copy_block& block : plan.blocks()) {
            if (!wanted[block.output]) continue;
            std::vector<u64> step(block.loop_count);
            for (bool more = true; more;) {
                u64 from = block.source_offset;
                for (std::uint32_t l = 0; l < block.loop_count; ++l)
                    from += step[l] * block.loops[l].source_stride;
                for (u64 b = 0; b < block.run_bytes; ++b) needed[from + b] = true;
                more = false;
                for (std::uint32_t l = block.loop_count; l-- > 0 && !more;
                     step[l] = more ? step[l] : 0)
                    more = ++step[l] < block.loops[l].extent;
            }
        }
        return needed;
    };
    const auto check_reads = [&](const sf::copy_plan& plan, const packed_set& set,
                                 const std::vector<bool>& wanted, bool one_by_one) {
        const auto& times = set.times_read[0];
        const std::vector<bool> needed = needed_bytes(plan, times.size(), wanted);
        bool once = true, all = true, small_gaps = true, any = false;
        for (std::size_t i = 0; i < times.size();) {
            std::size_t end = i;
            bool read = false;
            for (; end < times.size() && !needed[end]; ++end) read = read || times[end] != 0;
            small_gaps =
                small_gaps &&
                (!read || (any && end - i < sf::detail::read_gap_bytes && end < times.size()));
            for (i = end; i < times.size() && needed[i]; ++i) {
                all = all && times[i] >= 1;
                any = true;
            }
        }
        for (const unsigned each : times) once = once && each <= 1;
        CHECK((once || one_by_one));
        CHECK(all);
        CHECK(small_gaps);
    };
    struct one_case {
        u64 i, first, end, h;
        sf::dtype type;
    };
    const u64 gap = sf::detail::read_gap_bytes;
    const one_case cases[] = {
        {64, 32, 64, 64, sf::dtype::bf16},  // short rows
        {5000, 100, 150, 5, sf::dtype::u8},
        {600000, 100, 599900, 1, sf::dtype::u8},        // longer than half a buffer
        {gap / 2 + 4000, 0, 4000, 3, sf::dtype::bf16},  // just a gap
        {gap / 2 + 4000, 0, 4001, 3, sf::dtype::bf16},  // just no gap
        {gap / 2 + 4000, gap / 2 + 3999, gap / 2 + 4000, 3, sf::dtype::bf16},  // single elements
        {2 * gap, gap / 2, gap / 2 + 20000, 2, sf::dtype::u8},  // runs that need no buffer
    };
    for (const one_case& each : cases) {
        const bool is_long = each.i > 5000;
        const laws::experts x{.end_expert = is_long ? u64{1} : u64{2},
                              .i_end = each.i,
                              .h = each.h,
                              .type = each.type};
        for (const laws::kind from : laws::all_kinds) {
            if (!laws::cannot_store(from, x).empty() ||
                (is_long && from != laws::kind::per_expert && from != laws::kind::transposed &&
                 from != laws::kind::columns_in_turn))
                continue;
            packed_set set = laws::make_set(from, x, "moe");
            for (const laws::kind to : laws::all_kinds) {
                if (is_long && to != laws::kind::gate_up && to != laws::kind::transposed &&
                    to != laws::kind::stacks)
                    continue;
                INFO(laws::spelled(from), " to ", laws::spelled(to), " I ", each.i, ": ",
                     each.first, " - ", each.end);
                auto plan = laws::plan_kinds(set, "moe", from, to,
                                             {.sliced_extent = "I",
                                              .slice_first = each.first,
                                              .slice_end = each.end,
                                              .allow_missing_scales = true});
                if (!plan) continue;
                std::vector<std::vector<std::byte>> outputs, pieces;
                for (const auto& output : plan->outputs())
                    outputs.emplace_back(static_cast<std::size_t>(output.size_bytes));
                pieces = outputs;
                std::vector<std::span<std::byte>> buffers{outputs.begin(), outputs.end()};
                set.resident = true;
                REQUIRE(sf::fuse(*plan, buffers));
                const auto right = outputs;
                set.resident = false;
                const auto forget = [&] {
                    for (auto& source : set.times_read) std::fill(source.begin(), source.end(), 0u);
                    for (auto& output : outputs)
                        std::fill(output.begin(), output.end(), std::byte{0xEE});
                };
                forget();
                REQUIRE(sf::fuse(*plan, buffers));
                CHECK(outputs == right);
                check_reads(*plan, set, std::vector<bool>(outputs.size(), true), false);
                // one output, the first half of the outputs, and one output by fuse_range
                forget();
                REQUIRE(sf::fuse(*plan, plan->outputs()[0].local_name, outputs[0]));
                CHECK(outputs[0] == right[0]);
                std::vector<bool> wanted(outputs.size(), false);
                wanted[0] = true;
                check_reads(*plan, set, wanted, false);
                forget();
                REQUIRE(sf::fuse_range(*plan, 0, 0, pieces[0]));
                CHECK(pieces[0] == right[0]);
                // Interleaved parts of one output are gathered one by one.
                check_reads(*plan, set, wanted, true);
            }
        }
    }
    // in numbers: an eighth of down's columns
    const laws::experts x{.i_end = gap, .h = 5};
    packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    set.resident = false;
    auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up,
                                 {.sliced_extent = "I", .slice_rank = 1, .slice_ranks = 8});
    REQUIRE(plan);
    REQUIRE(plan->output("down_proj"));
    std::vector<std::byte> down(static_cast<std::size_t>(plan->output("down_proj")->size_bytes));
    set.read_bytes = set.read_calls = 0;
    REQUIRE(sf::fuse(*plan, "down_proj", down));
    CHECK(set.read_bytes == down.size());
    CHECK(set.read_calls == 5);
}

TEST_CASE("fuse: buffers of the wrong size or number are refused and nothing is written") {
    const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
    const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
    REQUIRE(plan);
    std::vector<std::byte> right(2 * 8 * 3 * 2, std::byte{1}),
        wrong(2 * 8 * 3 * 2 + 1, std::byte{1}), down(2 * 3 * 4 * 2, std::byte{1});
    auto refused = sf::fuse(*plan, "gate_up_proj", wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::wrong_buffer_size);
    CHECK(refused.error().tensor == "moe.gate_up_proj");
    CHECK(refused.error().expected == right.size());
    CHECK(refused.error().actual == wrong.size());
    refused = sf::fuse(*plan, "gate_up_proj", std::span<std::byte>{});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::wrong_buffer_size);
    refused = sf::fuse(*plan, "up_proj", right);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::output_not_found);
    CHECK(refused.error().scope == "moe");
    CHECK(refused.error().detail == "\"up_proj\"; it has gate_up_proj and down_proj");
    const std::span<std::byte> one[] = {right};
    refused = sf::fuse(*plan, one);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::wrong_buffer_size);
    const std::span<std::byte> second_wrong[] = {right, wrong};
    refused = sf::fuse(*plan, second_wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().tensor == "moe.down_proj");
    CHECK(std::count(right.begin(), right.end(), std::byte{1}) ==
          static_cast<std::ptrdiff_t>(right.size()));
    CHECK(std::count(wrong.begin(), wrong.end(), std::byte{1}) ==
          static_cast<std::ptrdiff_t>(wrong.size()));
    const std::span<std::byte> only_down[] = {std::span{right}.first(0), down};
    REQUIRE(sf::fuse(*plan, only_down));
    CHECK(down == expected(x, laws::kind::gate_up, "down_proj"));
    CHECK(std::count(right.begin(), right.end(), std::byte{1}) ==
          static_cast<std::ptrdiff_t>(right.size()));
}

TEST_CASE("fuse: into a framework's own tensor, whose dtype and shape must be the output's") {
    const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
    const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
    REQUIRE(plan);
    framework_tensor mine{std::vector<std::byte>(96), sf::dtype::bf16, {2, 8, 3}};
    REQUIRE(sf::fuse(*plan, "gate_up_proj", mine));
    CHECK(mine.storage == expected(x, laws::kind::gate_up, "gate_up_proj"));
    backwards_tensor other{std::vector<std::byte>(96), {3, 8, 2}};
    REQUIRE(sf::fuse(*plan, "gate_up_proj", other));
    CHECK(other.storage == mine.storage);

    framework_tensor untouched{std::vector<std::byte>(96, std::byte{7}), sf::dtype::f16, {2, 8, 3}};
    auto done = sf::fuse(*plan, "gate_up_proj", untouched);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::dtype_mismatch);
    untouched.element = sf::dtype::bf16;
    for (const std::vector<u64>& shape :
         {std::vector<u64>{2, 3, 8}, {8, 2, 3}, {48}, {2, 8, 3, 1}, {}}) {
        untouched.extents = shape;
        done = sf::fuse(*plan, "gate_up_proj", untouched);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == errc::shape_mismatch);
    }
    untouched.extents = {2, 8, 3};
    done = sf::fuse(*plan, "gate", untouched);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::output_not_found);
    CHECK(std::count(untouched.storage.begin(), untouched.storage.end(), std::byte{7}) == 96);
    untouched.storage.resize(95);
    done = sf::fuse(*plan, "gate_up_proj", untouched);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::wrong_buffer_size);
}

TEST_CASE("fuse: a framework's own tensors can be the source") {
    const laws::experts x{.end_expert = 3, .i_end = 4, .h = 3};
    const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    std::vector<framework_tensor> mine;
    mine.reserve(set.size());
    std::vector<sf::named_tensor> list;
    for (std::size_t i = 0; i < set.size(); ++i) {
        const auto spec = set.spec(i);
        const auto bytes = set.bytes_of(spec.name);
        mine.push_back(
            {{bytes.begin(), bytes.end()}, spec.type, {spec.shape.begin(), spec.shape.end()}});
        auto view = sf::view_of(mine.back(), mine.back().extents);
        REQUIRE(view);
        list.push_back({spec.name, *view});
    }
    const sf::tensor_list tensors{list};
    auto plan = sf::plan<laws::layouts::per_expert, laws::layouts::columns_in_turn>(tensors, "moe");
    REQUIRE(plan);
    CHECK(fused(*plan, "gate_up_proj") == expected(x, laws::kind::columns_in_turn, "gate_up_proj"));
    CHECK(fused(*plan, "down_proj") == expected(x, laws::kind::columns_in_turn, "down_proj"));
}

TEST_CASE("view: an output that is contiguous in the source is not copied") {
    SUBCASE("fused already") {
        const laws::experts x{.end_expert = 3, .i_end = 4, .h = 3};
        packed_set set = laws::make_set(laws::kind::gate_up, x, "moe");
        auto plan = laws::plan_kinds(set, "moe", laws::kind::gate_up, laws::kind::gate_up, {});
        REQUIRE(plan);
        for (const char* name : {"gate_up_proj", "down_proj"}) {
            auto view = sf::view(*plan, name);
            REQUIRE(view);
            CHECK(view->bytes().data() == set.bytes_of(std::string{"moe."} + name).data());
            CHECK(view->type() == sf::dtype::bf16);
            CHECK(view->rank() == 3);
            REQUIRE(plan->output(name));
            CHECK(view->size_bytes() == plan->output(name)->size_bytes);
        }
        set.resident = false;
        auto absent = sf::view(*plan, "down_proj");
        REQUIRE_FALSE(absent);
        CHECK(absent.error().code == errc::not_resident);
        CHECK(absent.error().tensor == "moe.down_proj");
    }
    SUBCASE("one expert's matrix out of a fused tensor") {
        const laws::experts x{.end_expert = 3, .i_end = 4, .h = 3};
        const packed_set set = laws::make_set(laws::kind::gate_up, x, "moe");
        auto plan = laws::plan_kinds(set, "moe", laws::kind::gate_up, laws::kind::per_expert, {});
        REQUIRE(plan);
        auto view = sf::view(*plan, "2.up_proj.weight");
        REQUIRE(view);
        CHECK(view->bytes().data() ==
              set.bytes_of("moe.gate_up_proj").data() + (2 * 8 + 4) * 3 * 2);
        CHECK(std::vector<std::byte>(view->bytes().begin(), view->bytes().end()) ==
              expected(x, laws::kind::per_expert, "2.up_proj.weight"));
    }
    SUBCASE("gate and up of one expert that lie side by side") {
        const laws::experts x{.end_expert = 1, .i_end = 4, .h = 3};
        const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
        auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
        REQUIRE(plan);
        auto view = sf::view(*plan, "gate_up_proj");
        REQUIRE(view);
        CHECK(view->bytes().data() == set.bytes_of("moe.0.gate_proj.weight").data());
        auto turned = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::up_gate, {});
        REQUIRE(turned);
        CHECK_FALSE(sf::view(*turned, "w3_w1_weight"));
    }
    SUBCASE("not what must be put together") {
        const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
        const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
        auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
        REQUIRE(plan);
        auto view = sf::view(*plan, "gate_up_proj");
        REQUIRE_FALSE(view);
        CHECK(view.error().code == errc::not_resident);
        view = sf::view(*plan, "gate_proj");
        REQUIRE_FALSE(view);
        CHECK(view.error().code == errc::output_not_found);
    }
    SUBCASE("an output without bytes is an empty view") {
        const laws::experts x{.end_expert = 2, .i_end = 4, .h = 0};
        const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
        auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
        REQUIRE(plan);
        auto view = sf::view(*plan, "gate_up_proj");
        REQUIRE(view);
        CHECK(view->size_bytes() == 0);
        CHECK(view->rank() == 3);
        CHECK(sf::fuse(*plan, "gate_up_proj", std::span<std::byte>{}));
    }
}

TEST_CASE("gather: every window of an output equals that window of the whole output") {
    const laws::experts x{.end_expert = 3,
                          .i_end = 4,
                          .h = 3,
                          .type = sf::dtype::u8,
                          .fields = {laws::field::weight, laws::field::scalar}};
    for (const laws::kind from : laws::all_kinds) {
        if (!laws::cannot_store(from, x).empty()) continue;
        packed_set set = laws::make_set(from, x, "moe");
        for (const laws::kind to : laws::all_kinds) {
            if (!laws::cannot_store(to, x).empty()) continue;
            INFO(laws::spelled(from), " to ", laws::spelled(to));
            auto plan = laws::plan_kinds(set, "moe", from, to, {.allow_missing_scales = true});
            REQUIRE(plan);
            for (const bool resident : {true, false}) {
                set.resident = resident;
                for (std::size_t i = 0; i < plan->outputs().size();
                     i += to == laws::kind::per_expert ? 4 : 1) {
                    const auto whole = expected(x, to, plan->outputs()[i].local_name);
                    bool equal = true;
                    for (std::size_t begin = 0; begin <= whole.size(); ++begin)
                        for (std::size_t end = begin; end <= whole.size();
                             end += 1 + (end - begin) / 5) {
                            std::vector<std::byte> out(end - begin, std::byte{0xEE});
                            equal = equal && sf::fuse_range(*plan, i, begin, out) &&
                                    std::equal(out.begin(), out.end(),
                                               whole.begin() + static_cast<std::ptrdiff_t>(begin));
                        }
                    CHECK(equal);
                }
            }
        }
    }
}

TEST_CASE("gather: random windows of larger outputs") {
    const laws::experts x{.end_expert = 5, .i_end = 128, .h = 9};
    std::mt19937 random{20};
    for (const laws::kind from :
         {laws::kind::per_expert, laws::kind::columns_in_turn, laws::kind::rows_64})
        for (const laws::kind to : laws::all_kinds) {
            const packed_set set = laws::make_set(from, x, "moe");
            auto plan = laws::plan_kinds(set, "moe", from, to, {});
            REQUIRE(plan);
            const auto whole = expected(x, to, plan->outputs()[0].local_name);
            bool equal = true;
            for (int turn = 0; turn < 50; ++turn) {
                std::size_t begin = random() % (whole.size() + 1),
                            end = random() % (whole.size() + 1);
                if (begin > end) std::swap(begin, end);
                std::vector<std::byte> out(end - begin);
                equal = equal && sf::fuse_range(*plan, 0, begin, out) &&
                        std::equal(out.begin(), out.end(),
                                   whole.begin() + static_cast<std::ptrdiff_t>(begin));
            }
            CHECK(equal);
        }
}

TEST_CASE("gather: windows outside of the output are refused") {
    const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
    const packed_set set = laws::make_set(laws::kind::per_expert, x, "moe");
    auto plan = laws::plan_kinds(set, "moe", laws::kind::per_expert, laws::kind::gate_up, {});
    REQUIRE(plan);
    std::vector<std::byte> out(8);
    CHECK(sf::fuse_range(*plan, 0, 88, out));
    CHECK(sf::fuse_range(*plan, 0, 96, std::span<std::byte>{}));
    for (const u64 begin : {u64{89}, u64{96}, u64{97}, ~u64{0}, ~u64{0} - 7}) {
        auto done = sf::fuse_range(*plan, 0, begin, out);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == errc::out_of_range);
    }
    auto done = sf::fuse_range(*plan, 2, 0, out);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::output_not_found);
}

TEST_CASE("ordered_block: windows of either side, one after the other, visit each byte once") {
    const laws::experts x{.end_expert = 3, .i_end = 8, .h = 5};
    for (const laws::kind from : laws::all_kinds) {
        if (!laws::cannot_store(from, x).empty()) continue;
        const packed_set set = laws::make_set(from, x, "moe");
        for (const laws::kind to : laws::all_kinds) {
            if (!laws::cannot_store(to, x).empty()) continue;
            auto plan = laws::plan_kinds(set, "moe", from, to, {});
            REQUIRE(plan);
            for (const sf::copy_block& block : plan->blocks())
                for (const auto side :
                     {sf::detail::block_side::source, sf::detail::block_side::destination})
                    for (const u64 step : {u64{1}, u64{3}, u64{7}, u64{64}, u64{100000}}) {
                        const bool by_source = side == sf::detail::block_side::source;
                        const u64 first =
                            by_source ? block.source_offset : block.destination_offset;
                        const u64 extent = by_source ? block.source_extent_bytes()
                                                     : block.destination_extent_bytes();
                        const sf::detail::ordered_block ordered{block, side};
                        std::map<u64, u64> to_from;
                        bool inside = true, once = true, rising = true;
                        u64 behind = first;
                        for (u64 begin = first; begin < first + extent; begin += step) {
                            const sf::detail::byte_window window{begin, begin + step};
                            auto done = ordered.for_each_run(
                                window,
                                [&](u64 source, u64 destination,
                                    u64 size) noexcept -> sf::result<void> {
                                    const u64 here = by_source ? source : destination;
                                    inside =
                                        inside && here >= window.begin && here + size <= window.end;
                                    rising = rising && here >= behind;
                                    behind = here + size;
                                    for (u64 b = 0; b < size; ++b)
                                        once =
                                            to_from.emplace(destination + b, source + b).second &&
                                            once;
                                    return {};
                                });
                            REQUIRE(done);
                        }
                        CHECK(inside);
                        CHECK(once);
                        CHECK(rising);
                        CHECK(to_from.size() == block.size_bytes());
                    }
        }
    }
}

TEST_CASE("ordered_block: the first failure stops it") {
    sf::copy_block block;
    block.run_bytes = 2;
    block.loop_count = 1;
    block.loops[0] = {5, 4, 2};
    int calls = 0;
    auto done = sf::detail::ordered_block{block, sf::detail::block_side::source}.for_each_run(
        {0, 100}, [&](u64, u64, u64) noexcept -> sf::result<void> {
            if (++calls == 3) return sf::failure{.code = errc::canceled};
            return {};
        });
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::canceled);
    CHECK(calls == 3);
}

namespace {

/// A set whose source ends too early, or whose reads fail.
struct broken_set {
    const packed_set& whole;
    bool resident;
    u64 held;
    std::size_t size() const noexcept { return whole.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept { return whole.spec(i); }
    sf::tensor_location place(std::size_t i) const noexcept { return whole.place(i); }
    std::string_view source_name(std::uint32_t) const noexcept { return "short.safetensors"; }
    std::span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return resident ? whole.held_bytes(source).first(static_cast<std::size_t>(held))
                        : std::span<const std::byte>{};
    }
    sf::result<void> read(std::uint32_t, u64 offset, std::span<std::byte>) const noexcept {
        return sf::failure{
            .code = errc::io_error, .file = "short.safetensors", .offset = offset, .os_error = 5};
    }
};

}  // namespace

TEST_CASE(
    "fuse: a source that is shorter than its tensors, or cannot be read, is a failure, not a "
    "crash") {
    const laws::experts x{.end_expert = 2, .i_end = 4, .h = 3};
    for (const laws::kind from : {laws::kind::per_expert, laws::kind::columns_in_turn}) {
        const packed_set set = laws::make_set(from, x, "moe");
        for (const laws::kind to :
             {laws::kind::gate_up, laws::kind::transposed, laws::kind::rows_1}) {
            for (u64 held = 1; held < set.held_bytes(0).size(); held += 5) {
                const broken_set broken{set, true, held};
                auto plan = sf::plan(broken, "moe", laws::description(from), laws::description(to));
                REQUIRE(plan);
                bool refused = false;
                for (const auto& each : plan->outputs()) {
                    std::vector<std::byte> out(static_cast<std::size_t>(each.size_bytes));
                    auto done = sf::fuse(*plan, each.local_name, out);
                    if (done) continue;
                    refused = true;
                    CHECK(done.error().code == errc::read_past_end);
                    CHECK(done.error().file == "short.safetensors");
                    auto piece = sf::fuse_range(
                        *plan, static_cast<std::size_t>(&each - plan->outputs().data()), 0, out);
                    CHECK_FALSE(piece);
                }
                CHECK(refused);
            }
            const broken_set unreadable{set, false, 0};
            auto plan = sf::plan(unreadable, "moe", laws::description(from), laws::description(to));
            REQUIRE(plan);
            std::vector<std::byte> out(static_cast<std::size_t>(plan->outputs()[0].size_bytes));
            auto done = sf::fuse(*plan, plan->outputs()[0].local_name, out);
            REQUIRE_FALSE(done);
            CHECK(done.error().code == errc::io_error);
            CHECK(done.error().os_error == 5);
            CHECK_FALSE(sf::fuse_range(*plan, 0, 1, std::span{out}.first(3)));
        }
    }
}

TEST_CASE("copy_loops: a transpose of whole and partial tiles moves every element of any size") {
    for (const u64 element : {1u, 2u, 4u, 8u})
        for (const u64 rows : {1u, 31u, 32u, 64u, 65u, 200u})
            for (const u64 columns : {1u, 7u, 8u, 64u, 100u, 129u}) {
                CAPTURE(element);
                CAPTURE(rows);
                CAPTURE(columns);
                std::vector<std::byte> from(rows * columns * element), to(from.size()),
                    expected(from.size());
                for (std::size_t i = 0; i < from.size(); ++i)
                    from[i] = static_cast<std::byte>(i * 131 + i / 251);
                for (u64 r = 0; r < rows; ++r)
                    for (u64 c = 0; c < columns; ++c)
                        std::copy_n(
                            from.begin() + static_cast<std::ptrdiff_t>((r * columns + c) * element),
                            element,
                            expected.begin() +
                                static_cast<std::ptrdiff_t>((c * rows + r) * element));
                sf::copy_block block{.run_bytes = element, .loop_count = 2};
                block.loops[0] = {columns, element, rows * element};
                block.loops[1] = {rows, columns * element, element};
                sf::detail::copy_loops(block, 0, from.data(), to.data(), false);
                CHECK(to == expected);
            }
}
