// Arrays with the operations of numpy that fusing stands for: concatenate, stack, interleave,
// transpose and slice. They are loops over elements and know no layouts, so what they give is the
// expected result of a plan. Also: the tensors of a set as arrays, and what a plan makes.
#ifndef SAFEFUSE_TESTS_ARRAYS_HPP
#define SAFEFUSE_TESTS_ARRAYS_HPP

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/plan/plan.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/tensor/dtype.hpp>

#include "laws.hpp"

namespace arrays {

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;

// ------------------------------------------------------------------------------------------
// arrays

/// A row-major array: its dtype, its extents and the bytes of its elements.
struct array {
    sf::dtype type{};
    std::vector<u64> shape;
    std::vector<std::byte> bytes;
    bool operator==(const array&) const = default;

    u64 element_bytes() const { return sf::bits(type) / 8; }
};

/// The product of the extents [first, last).
inline u64 product(const std::vector<u64>& extents, std::size_t first, std::size_t last) {
    u64 made = 1;
    for (std::size_t a = first; a < last; ++a) made *= extents[a];
    return made;
}

/// numpy.concatenate: the operands one after the other along an axis.
inline array cat(std::size_t axis, const std::vector<array>& of) {
    array out{of[0].type, of[0].shape, {}};
    for (std::size_t i = 1; i < of.size(); ++i) out.shape[axis] += of[i].shape[axis];
    const u64 outer = product(out.shape, 0, axis);
    for (u64 o = 0; o < outer; ++o)
        for (const array& each : of) {
            const u64 row = product(each.shape, axis, each.shape.size()) * each.element_bytes();
            for (u64 b = 0; b < row; ++b) out.bytes.push_back(each.bytes[o * row + b]);
        }
    return out;
}

/// numpy.stack: the operands along a new first axis.
inline array stack(const std::vector<array>& of) {
    std::vector<array> with_axis = of;
    for (array& each : with_axis) each.shape.insert(each.shape.begin(), 1);
    return cat(0, with_axis);
}

/// The entries of two arrays by turns along an axis: a0 b0 a1 b1 ...
inline array interleave(std::size_t axis, const array& a, const array& b) {
    array out{a.type, a.shape, {}};
    out.shape[axis] *= 2;
    const u64 outer = product(a.shape, 0, axis),
              inner = product(a.shape, axis + 1, a.shape.size()) * a.element_bytes();
    for (u64 o = 0; o < outer; ++o)
        for (u64 i = 0; i < a.shape[axis]; ++i)
            for (const array* each : {&a, &b})
                for (u64 k = 0; k < inner; ++k)
                    out.bytes.push_back(each->bytes[(o * a.shape[axis] + i) * inner + k]);
    return out;
}

/// numpy.swapaxes: the last two axes change places.
inline array transposed(const array& of) {
    array out = of;
    const std::size_t rank = of.shape.size();
    std::swap(out.shape[rank - 1], out.shape[rank - 2]);
    const u64 rows = of.shape[rank - 2], columns = of.shape[rank - 1], width = of.element_bytes();
    for (u64 m = 0; m < product(of.shape, 0, rank - 2); ++m)
        for (u64 r = 0; r < rows; ++r)
            for (u64 c = 0; c < columns; ++c)
                for (u64 b = 0; b < width; ++b)
                    out.bytes[((m * columns + c) * rows + r) * width + b] =
                        of.bytes[((m * rows + r) * columns + c) * width + b];
    return out;
}

/// numpy.take: the entries [first, end) of an axis.
inline array cut(std::size_t axis, u64 first, u64 end, const array& of) {
    array out{of.type, of.shape, {}};
    out.shape[axis] = end - first;
    const u64 inner = product(of.shape, axis + 1, of.shape.size()) * of.element_bytes();
    for (u64 o = 0; o < product(of.shape, 0, axis); ++o)
        for (u64 b = first * inner; b < end * inner; ++b)
            out.bytes.push_back(of.bytes[o * of.shape[axis] * inner + b]);
    return out;
}

// ------------------------------------------------------------------------------------------
// arrays by name

/// Arrays by the names of their tensors.
using tensors = std::map<std::string, array>;

/// All tensors of a set, or those below a scope, named without it.
inline tensors held(const packed_set& set, std::string_view scope = {}) {
    const std::string prefix = scope.empty() ? std::string{} : std::string{scope} + ".";
    tensors out;
    for (std::size_t i = 0; i < set.size(); ++i) {
        const sf::tensor_spec spec = set.spec(i);
        if (!spec.name.starts_with(prefix)) continue;
        const auto bytes = set.bytes_of(spec.name);
        out[std::string{spec.name.substr(prefix.size())}] = {
            spec.type, {spec.shape.begin(), spec.shape.end()}, {bytes.begin(), bytes.end()}};
    }
    return out;
}

/// A set of these tensors, below a scope if one is given.
inline packed_set set_of(const tensors& all, std::string_view scope = {}) {
    const std::string prefix = scope.empty() ? std::string{} : std::string{scope} + ".";
    packed_set set;
    for (const auto& [name, each] : all) set.add(prefix + name, each.type, each.shape, each.bytes);
    return set;
}

/// Names of outputs: whole, or without the scope.
enum class naming { whole, local };

/// Runs a plan in every way: by hand, with fuse from memory and by reading, and with fuse_range in
/// three pieces. All must agree, and write each byte once. Gives what they make.
inline tensors made_by(const sf::copy_plan& plan, packed_set& set, naming names = naming::whole) {
    const laws::executed ran = laws::execute(plan, set);
    REQUIRE(ran.in_bounds);
    tensors out;
    for (std::size_t i = 0; i < plan.outputs().size(); ++i) {
        const sf::plan_output& each = plan.outputs()[i];
        bool once = true;
        for (const unsigned times : ran.times_written[i]) once = once && times == 1;
        REQUIRE(once);
        out[std::string{names == naming::whole ? each.name : each.local_name}] = {
            each.type, {each.shape.begin(), each.shape.end()}, ran.outputs[i]};
    }
    REQUIRE(out.size() == plan.outputs().size());
    for (const bool resident : {true, false}) {
        set.resident = resident;
        std::vector<std::vector<std::byte>> whole_outputs;
        for (const auto& each : ran.outputs)
            whole_outputs.emplace_back(each.size(), std::byte{0xEE});
        std::vector<std::span<std::byte>> buffers{whole_outputs.begin(), whole_outputs.end()};
        REQUIRE(sf::fuse(plan, buffers));
        REQUIRE(whole_outputs == ran.outputs);
        for (std::size_t i = 0; i < plan.outputs().size(); ++i) {
            std::vector<std::byte> pieces(ran.outputs[i].size(), std::byte{0xEE});
            const std::size_t step = pieces.size() / 3 + 1;
            for (std::size_t at = 0; at < pieces.size(); at += step)
                REQUIRE(sf::fuse_range(
                    plan, i, at,
                    std::span{pieces}.subspan(at, std::min(step, pieces.size() - at))));
            REQUIRE(pieces == ran.outputs[i]);
        }
    }
    set.resident = true;
    return out;
}

/// Checks that two lists of tensors are the same, and names the first tensor that differs.
inline void check_same(const tensors& made, const tensors& expected) {
    for (const auto& entry : expected) {
        const std::string& name = entry.first;
        const array& each = entry.second;
        INFO("tensor ", name);
        const auto found = made.find(name);
        REQUIRE(found != made.end());
        CHECK(found->second.shape == each.shape);
        CHECK(found->second.type == each.type);
        CHECK(found->second.bytes == each.bytes);
    }
    CHECK(made.size() == expected.size());
}

}  // namespace arrays

#endif
