// Half-open arithmetic of strided copies, compared with its definition byte by byte: which steps of
// a loop are in a window, and which parts of a block.
#include <safefuse/run/detail/strided_copy.hpp>

#include <cstdint>
#include <set>
#include <utility>

#include <doctest/doctest.h>

namespace sf = safefuse;
namespace detail = safefuse::detail;
using u64 = std::uint64_t;

namespace {

/// The pairs (source byte, output byte) that a block copies.
std::set<std::pair<u64, u64>> pairs_of(const sf::copy_block& block) {
    std::set<std::pair<u64, u64>> out{{block.source_offset, block.destination_offset}};
    const auto spread = [&](u64 count, u64 from, u64 to) {
        std::set<std::pair<u64, u64>> more;
        for (const auto& [a, b] : out)
            for (u64 i = 0; i < count; ++i) more.insert({a + i * from, b + i * to});
        out = more;
    };
    for (std::uint32_t l = 0; l < block.loop_count; ++l)
        spread(block.loops[l].extent, block.loops[l].source_stride,
               block.loops[l].destination_stride);
    spread(block.run_bytes, 1, 1);
    return out;
}

/// A transpose of four rows of three elements of two bytes.
sf::copy_block turned() {
    sf::copy_block out;
    out.source_offset = 5;
    out.destination_offset = 7;
    out.run_bytes = 2;
    out.loop_count = 2;
    out.loops[0] = {3, 2, 8};
    out.loops[1] = {4, 9, 2};
    return out;
}

}  // namespace

TEST_CASE("strided copy: the steps that touch a window, and those inside it") {
    for (const u64 step : {u64{3}, u64{4}, u64{7}})
        for (const u64 each : {u64{1}, u64{3}})
            for (u64 begin = 0; begin < 24; ++begin)
                for (u64 end = begin + 1; end < 32; ++end) {
                    const detail::loop_steps steps{4, step, each, 3};
                    const auto touching = detail::steps_touching(steps, {begin, end});
                    const auto inside = detail::steps_inside(steps, {begin, end});
                    for (u64 i = 0; i < steps.count; ++i) {
                        CAPTURE(step);
                        CAPTURE(each);
                        CAPTURE(begin);
                        CAPTURE(end);
                        CAPTURE(i);
                        const u64 from = 4 + i * step, to = from + each;
                        CHECK((i >= touching.first && i < touching.last) ==
                              (from < end && to > begin));
                        CHECK((i >= inside.first && i < inside.last) ==
                              (from >= begin && to <= end));
                    }
                }
}

TEST_CASE("strided copy: the parts of a block in a window are all of it that is in the window") {
    const sf::copy_block block = turned();
    const auto all = pairs_of(block);
    for (const auto side : {detail::block_side::source, detail::block_side::destination})
        for (u64 begin = 0; begin < 44; ++begin)
            for (u64 end = begin; end < 46; ++end) {
                CAPTURE(begin);
                CAPTURE(end);
                std::set<std::pair<u64, u64>> wanted, found, walked;
                for (const auto& each : all) {
                    const u64 at = side == detail::block_side::source ? each.first : each.second;
                    if (at >= begin && at < end) wanted.insert(each);
                }
                std::size_t bytes = 0;
                const auto take = [&](const sf::copy_block& part) -> sf::result<void> {
                    for (const auto& each : pairs_of(part)) found.insert(each);
                    bytes += static_cast<std::size_t>(part.size_bytes());
                    return {};
                };
                CHECK(detail::cut(block, side, {begin, end}, take));
                CHECK(found == wanted);
                CHECK(bytes == wanted.size());
                const auto walk = [&](u64 from, u64 to, u64 size) -> sf::result<void> {
                    for (u64 i = 0; i < size; ++i) walked.insert({from + i, to + i});
                    return {};
                };
                CHECK(detail::ordered_block{block, side}.for_each_run({begin, end}, walk));
                CHECK(walked == wanted);
            }
}

TEST_CASE("strided copy: a stretch begins at the first copied byte at or after a given offset") {
    const sf::copy_block block = turned();
    std::set<u64> bytes;
    for (const auto& each : pairs_of(block)) bytes.insert(each.first);
    const detail::ordered_block ordered{block, detail::block_side::source};
    for (u64 at = 0; at < 44; ++at) {
        CAPTURE(at);
        const auto stretch = ordered.stretch(at, 1);
        const auto next = bytes.lower_bound(at);
        if (next == bytes.end()) {
            CHECK(stretch.begin == stretch.end);
            continue;
        }
        CHECK(stretch.begin == *next);
        CHECK(bytes.contains(stretch.end - 1));
        CHECK_FALSE(bytes.contains(stretch.end));
    }
}
