// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs a plan into a window of one output, for callers that process outputs piece by
// piece.
#ifndef SAFEFUSE_RUN_FUSE_RANGE_HPP
#define SAFEFUSE_RUN_FUSE_RANGE_HPP

#include <cstddef>
#include <cstdint>

#include <safefuse/core/config.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/run/detail/execute.hpp>
#include <safefuse/run/detail/strided_copy.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Makes bytes [begin, begin + out.size()) of one output, for callers that write it out piece by
/// piece. If a source must be read, each call also reads the gaps of less than 256 KiB between
/// short runs.
///   fails   output_not_found, out_of_range, out_of_memory, canceled (progress returned false), and
///           as reading the sources (`out` may be partly written)
inline result<void> fuse_range(const copy_plan& plan, std::size_t output, std::uint64_t begin,
                               span<std::byte> out, progress_ref progress = {}) noexcept {
    if (output >= plan.outputs().size()) return detail::no_such_output(plan, output);
    const std::uint64_t size_bytes = plan.outputs()[output].size_bytes;
    if (begin > size_bytes || size_bytes - begin < out.size())
        return failure{.code = errc::out_of_range,
                       .tensor = text{plan.outputs()[output].name},
                       .expected = size_bytes,
                       .actual = begin};
    if (out.empty()) return {};
    detail::run_watch watch{plan, progress, out.size()};
    const detail::byte_window window{begin, begin + out.size()};
    vector<std::byte> buffer;
    detail::source_check check{plan.set()};
    const bool streams = out.size() >= detail::streamed_bytes;
    const detail::streaming past_cache{streams};
    for (const copy_block& block : plan.blocks()) {
        if (block.output != output) continue;
        const auto copy = [&](const copy_block& part) noexcept {
            return detail::gather_part(plan.set(), part, out.data(), begin, buffer, check, streams,
                                       watch.if_told());
        };
        auto done = detail::cut(block, detail::block_side::destination, window, copy);
        if (!done) return done;
    }
    return detail::compare_equal(plan, static_cast<std::uint32_t>(output), window, out.data());
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
