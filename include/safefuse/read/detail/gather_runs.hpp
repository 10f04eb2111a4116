// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a slice of a source that is read by position: runs that are near each other are read at
// once.
#ifndef SAFEFUSE_READ_DETAIL_GATHER_RUNS_HPP
#define SAFEFUSE_READ_DETAIL_GATHER_RUNS_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/tensor/slice.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// The most memory that a slice takes beside its own bytes.
inline constexpr std::size_t gather_buffer_bytes = std::size_t{1} << 20;
/// The most bytes between two runs that are read and thrown away to save a call.
inline constexpr std::uint64_t gather_gap_bytes = 4096;
/// Runs from this size on are read one by one, straight to where they belong.
inline constexpr std::size_t gather_run_bytes = std::size_t{64} << 10;

/// Fills `out`, which has the slice's size, with its runs. `read(offset, bytes)` fills bytes from a
/// position in the tensor and returns result<void>. If there is no memory for a buffer, each run is
/// read alone.
///   fails   as read
template <class Read>
result<void> gather_runs(const slice_runs& runs, span<std::byte> out, Read&& read) noexcept {
    const slice_runs::group group = runs.grouped(gather_gap_bytes);
    const std::size_t run_bytes = static_cast<std::size_t>(runs.run_bytes());
    vector<std::byte> buffer;
    const bool gathers = group.run_count > 1 && run_bytes < gather_run_bytes &&
                         buffer.resize_unset(group.span_bytes < gather_buffer_bytes
                                                 ? static_cast<std::size_t>(group.span_bytes)
                                                 : gather_buffer_bytes);
    std::uint64_t begin = 0, end = 0;                // what the buffer holds
    std::uint64_t runs_of_group = 0, group_end = 0;  // how many are left
    std::byte* to = out.data();
    return runs.for_each_run([&](std::uint64_t offset) noexcept -> result<void> {
        std::byte* const at = to;
        to += run_bytes;
        if (!gathers) return read(offset, span<std::byte>{at, run_bytes});
        if (runs_of_group == 0) {
            runs_of_group = group.run_count;
            group_end = offset + group.span_bytes;
        }
        --runs_of_group;
        if (end < offset + run_bytes) {
            const std::uint64_t left = group_end - offset;
            begin = offset;
            end = offset + (left < buffer.size() ? left : buffer.size());
            if (auto done = read(begin, buffer.view().first(static_cast<std::size_t>(end - begin)));
                !done)
                return done;
        }
        std::memcpy(at, buffer.data() + (offset - begin), run_bytes);
        return {};
    });
}

}  // namespace detail

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
